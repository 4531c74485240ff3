"""Source metrics of both packages: sizes, annotations, comments, and the imports between folders.

`python -m tests.structure` prints the counts; `test_structure` holds them to what CONTRIBUTING.md promises.
"""

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("model_handler", "repurpose")
MAY_IMPORT = "May import: "


@dataclass(frozen=True)
class Module:
    """One file of a package."""

    path: Path

    @property
    def name(self) -> str:
        """The dotted name; that of a folder for its `__init__`."""
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    @property
    def is_folder(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def folder(self) -> str:
        """The folder that it lies in, dotted; of an `__init__`, its own."""
        return self.name if self.is_folder else self.name.rpartition(".")[0]

    @property
    def room(self) -> str:
        """What arrows are drawn between: the folder, or the module itself where that lies on top of its package."""
        on_top = self.folder in PACKAGES and not self.is_folder
        return self.name if on_top else self.folder

    @property
    def source(self) -> str:
        return self.path.read_text()

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.path)


@cache  # many tests walk the same trees
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def modules() -> dict[str, Module]:
    """Return every module of both packages by its dotted name."""
    found = [Module(path) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {module.name: module for module in found}


def imported(module: Module) -> Iterator[tuple[str, int]]:
    """Yield the modules of ours that it imports, wherever in the file, each with its line."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            for alias in node.names:
                # What is imported may be a module itself, or a name inside one.
                full = f"{node.module}.{alias.name}"
                yield (full if full in modules() else node.module), node.lineno
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.split(".")[0] in PACKAGES)


@cache
def arrows() -> list[tuple[str, str, str]]:
    """List each import from one room into another: from where, to where, and the line that makes it."""
    return list(_arrows())


def _arrows() -> Iterator[tuple[str, str, str]]:
    for module in modules().values():
        if module.name in PACKAGES:  # what users import: it gathers what lies below
            continue
        for name, line in imported(module):
            target = modules()[name].room
            if target != module.room:
                yield module.room, target, f"{module.path.relative_to(ROOT)}:{line} imports {name}"


def folders() -> dict[str, list[str]]:
    """Return every folder, dotted, with the names of its modules beside `__init__` and `__main__`."""
    found: dict[str, list[str]] = {}
    for module in modules().values():
        names = found.setdefault(module.folder, [])
        if module.path.stem not in ("__init__", "__main__"):
            names.append(module.path.stem)
    return found


def functions() -> Iterator[tuple[str, int, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function: where it stands, how many lines of code it has beside its docstring, and its node."""
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
                n_lines = (node.end_lineno or node.lineno) - body[0].lineno + 1 if body else 0
                yield f"{module.path.relative_to(ROOT)}:{node.lineno} {node.name}", n_lines, node


def only_stores(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether it is an `__init__` that hands on and keeps what it was given, and does nothing else."""

    def keeps(statement: ast.stmt) -> bool:
        if isinstance(statement, ast.Expr):
            value = statement.value
            return isinstance(value, ast.Constant) or ast.unparse(value).startswith("super().__init__(")
        return isinstance(statement, ast.Assign) and isinstance(statement.value, (ast.Name, ast.Constant, ast.Tuple))

    return function.name == "__init__" and all(keeps(statement) for statement in function.body)


def annotations() -> Counter[str]:
    """Count how often arguments are annotated as what, in the words of the source."""
    found: Counter[str] = Counter()
    for _, _, node in functions():
        given = node.args
        for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
            if argument is not None and argument.annotation is not None:
                found[ast.unparse(argument.annotation)] += 1
    return found


def share_of_any() -> float:
    """Compute the share of annotated arguments that are `Any` and nothing else."""
    found = annotations()
    return found["Any"] / found.total()


def comments_per_100_lines(folder: str) -> float:
    """Compute the density of comments, beside code or above it, in a folder and in those inside it."""
    # With the dots, a folder is not taken for another whose name begins the same.
    sources = [module.source for name, module in modules().items() if f"{name}.".startswith(f"{folder}.")]
    # Tokens, since a # may stand in a string.
    tokens = [token for source in sources for token in tokenize.generate_tokens(io.StringIO(source).readline)]
    n_comments = sum(token.type == tokenize.COMMENT for token in tokens)
    return 100 * n_comments / sum(len(source.splitlines()) for source in sources)


def main() -> None:
    print("Modules per folder:")
    for folder, names in folders().items():
        print(f"  {len(names):3}  {folder:38} {comments_per_100_lines(folder):.1f} comments per 100 lines")
    longest = sorted(((len(each.source.splitlines()), name) for name, each in modules().items()), reverse=True)
    print("Longest files:", *(f"{n} {name}" for n, name in longest[:8]), sep="\n  ")
    largest = sorted(((n, where) for where, n, node in functions() if not only_stores(node)), reverse=True)
    print("Longest functions:", *(f"{n} {where}" for n, where in largest[:8]), sep="\n  ")
    found = annotations()
    print(f"Any: {found['Any']} of {found.total()} annotated arguments, {share_of_any():.1%}")


if __name__ == "__main__":
    main()
