"""Real English text that needs no network: first paragraphs of docstrings, labelled by the package they are from.

Files are parsed and never imported, so nothing of them runs. Names of the packages, of the module that a docstring is
from and of anything with a dot in it are taken out, as they would tell the label; paragraphs that two packages share
are left out, those that one repeats come once. `python docstring_texts.py` prints what there is.
"""

import ast
import hashlib
import platform
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

__all__ = ["Texts", "docstring_texts", "few_per_class"]

# The label, and what it is imported as; the others come with Python.
_INSTALLED = {"numpy": "numpy", "pandas": "pandas", "scikit-learn": "sklearn", "scipy": "scipy", "torch": "torch"}
_OF_PYTHON = ("asyncio", "email", "multiprocessing", "unittest", "xml")
_NAMES = re.compile(
    r"\b(np|pd|sk|pytorch|scikits?|learn|" + "|".join([*_INSTALLED.values(), *_OF_PYTHON]) + r")\b", re.I
)
_DOTTED = re.compile(r"\b\w+(\.\w+)+\b")
_LEFT_OUT = {"tests", "test", "testing", "externals", "_vendor", "vendor", "array_api_compat", "array_api_extra"}
_MOST = 400  # paragraphs of a package
_FEWEST_WORDS = 6


@dataclass(frozen=True, eq=False)
class Texts:
    """Paragraphs, the package that each is from, both (n_texts,), and the versions of the packages."""

    texts: np.ndarray
    labels: np.ndarray
    versions: dict[str, str]

    def __str__(self) -> str:
        counts = Counter(self.labels.tolist())
        return "\n".join(f"{name:<16}{count:>5} paragraphs, {self.versions[name]}" for name, count in counts.items())


@cache
def docstring_texts() -> Texts:
    """Read the paragraphs of each package that is installed, at most 400 of each; packages come in alphabetic order."""
    found = {label: _paragraphs(name) for label, name in _packages().items()}
    shared = Counter(text for texts in found.values() for text in texts)
    pairs = [(text, label) for label, texts in found.items() for text in texts if shared[text] == 1]
    versions = {label: f"{label} {version(label)}" for label in found if label in _INSTALLED}
    versions |= {label: f"Python {platform.python_version()}" for label in found if label not in _INSTALLED}
    texts, labels = (np.array(column, dtype=object) for column in zip(*pairs))
    return Texts(texts, labels.astype(str), versions)


def few_per_class(labels: np.ndarray, n_per_class: int, n_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows to train on, so many of each class, and `n_test` of each to test on, which the former never reach.

    Of one seed the rows to test on are the same for any number of labels, and more labels keep those of fewer.
    """
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    train = np.concatenate([rows[n_test : n_test + n_per_class] for rows in drawn])
    return train, np.concatenate([rows[:n_test] for rows in drawn])


def _packages() -> dict[str, str]:
    wanted = {**_INSTALLED, **dict(zip(_OF_PYTHON, _OF_PYTHON))}
    return {label: wanted[label] for label in sorted(wanted) if find_spec(wanted[label]) is not None}


def _paragraphs(package: str) -> list[str]:
    """Return different paragraphs of a package, from files in an order that their names alone decide."""
    spec = find_spec(package)
    (root,) = spec.submodule_search_locations
    files = [path.relative_to(root) for path in Path(root).rglob("*.py")]
    files = [path for path in files if not _LEFT_OUT & set(path.parts)]
    found: dict[str, None] = {}
    for path in sorted(files, key=_shuffled):
        for paragraph in _first_paragraphs(Path(root) / path):
            text = _without_names(paragraph, path)
            if len(re.findall(r"[A-Za-z]{2,}", text)) >= _FEWEST_WORDS:
                found[text] = None
        if len(found) > 2 * _MOST:  # a large package has thousands
            break
    return sorted(found, key=_shuffled)[:_MOST]


def _first_paragraphs(file: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in strings, which are for the authors of that file
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):  # a template
            return
    for node in ast.walk(tree):
        has_docstring = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if has_docstring and (docstring := ast.get_docstring(node)):
            yield " ".join(docstring.strip().split("\n\n")[0].split())


def _without_names(text: str, path: Path) -> str:
    modules = [part.strip("_") for part in path.with_suffix("").parts]
    text = _NAMES.sub("", _DOTTED.sub("", text))
    of_module = "|".join(re.escape(name) for name in modules if name)
    text = re.sub(rf"\b_*({of_module})_*\b", "", text, flags=re.I) if of_module else text
    return " ".join(text.split())


def _shuffled(what: str | Path) -> str:
    name = what.as_posix() if isinstance(what, Path) else what
    return hashlib.sha256(name.encode()).hexdigest()


def main() -> None:
    """Print what there is, and what a bag of words makes of it."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    found = docstring_texts()
    print(found)
    train, test = few_per_class(found.labels, 20, 40, seed=0)
    bag = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10, max_iter=1000))
    bag.fit(found.texts[train], found.labels[train])
    print(f"accuracy of a bag of words with 20 labels a class: {bag.score(found.texts[test], found.labels[test]):.3f}")


if __name__ == "__main__":
    main()
