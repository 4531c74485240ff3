"""The parsers alone, fuzzed with hypothesis: each takes what it is given, or raises what it promises and nothing else.

Texts and bytes are drawn freely, and honest ones are damaged; values of JSON are drawn from the words of the format, so
that they come far. What is found becomes a case of `tests/repurpose/persistence/test_attacks.py`.
"""

import json
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.attacks.changes import places, with_value
from benchmarks.attacks.forging import manifest_text
from benchmarks.attacks.hostile import HOSTILE_VALUES
from benchmarks.attacks.saved import network, rows
from model_handler import CorruptFileError, Features, UnsafeFileError
from model_handler.files.array_files import array_digest, parse_arrays, pieces_of
from model_handler.files.canonical_json import canonical, parse_canonical, parse_json
from repurpose import GpRepurposer, load
from repurpose.persistence.container.generations import read_generation
from repurpose.persistence.values.codec import Codec
from repurpose.training.checkpoints.checkpoints import Checkpoints

_WORDS = ["type", "items", "key", "order", "fields", "class", "name", "value", "array", "state", "parts", "file"]
_TYPES = ["array", "bfloat16", "complex", "device", "dict", "float", "logistic_regression", "pairs", "part"]
_TYPES += [
    "random_state",
    "scalar",
    "skops",
    "tensor",
    "texts",
    "tuple",
    "GpModel",
    "Calibration",
    "a",
    "C",
    "F",
    "<U9",
]

_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([*_WORDS, *_TYPES]),
    st.text(max_size=9),
    st.sampled_from(HOSTILE_VALUES),
)
json_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(_WORDS), st.text(max_size=4)), inner, max_size=4),
        st.builds(
            lambda kind, more: {**more, "type": kind},
            st.sampled_from(_TYPES),
            st.dictionaries(st.sampled_from(_WORDS), inner, max_size=3),
        ),
    ),
    max_leaves=12,
)


def damaged(honest: bytes) -> st.SearchStrategy[bytes]:
    """Honest bytes with some others in one place, or any bytes."""

    def change(start: int, length: int, new: bytes) -> bytes:
        at = start % (len(honest) + 1)
        return honest[:at] + new + honest[at + length :]

    return st.one_of(
        st.binary(max_size=200), st.builds(change, st.integers(0), st.integers(0, 9), st.binary(max_size=9))
    )


class _Parsers:
    """What is parsed, each with what is drawn for it and the errors that it may raise."""

    def __init__(self, folder: Path) -> None:
        X, y = rows()
        self.folder, self.saved = folder, folder / "saved"
        common: dict[str, Any] = {"random_state": 0, "verbose": False, "device": "cpu"}
        self.network = network()
        GpRepurposer(self.network, ["1"], **common).repurpose(X, y).save_repurposer(self.saved)
        self.manifest = json.loads((self.saved / "manifest.json").read_text())
        self.places = list(places(self.manifest["content"]))
        Features({"a": X}, y).save(folder / "honest.safetensors")
        self.features = (folder / "honest.safetensors").read_bytes()
        self.array = np.arange(6, dtype=np.float32).reshape(3, 2)
        (folder / "checkpoints").mkdir()
        self.checkpoints = Checkpoints(folder / "checkpoints")

    def all(self) -> list[tuple[Callable[[Any], object], st.SearchStrategy[Any], tuple[type[Exception], ...]]]:
        text = damaged(canonical(self.manifest).encode()).map(lambda data: data.decode("latin-1"))
        change = st.tuples(st.sampled_from(self.places), json_values)
        ours = (CorruptFileError, UnsafeFileError)
        return [
            (lambda text: parse_json(text, "it"), text, ours),
            (lambda text: parse_canonical(text, "it"), text, ours),
            (lambda data: parse_arrays(bytearray(data), "it"), damaged(self.features), ours),
            (self.read_manifest, json_values, ours),
            (self.read_features, st.one_of(damaged(self.features), json_values), ours),
            (self.decode, json_values, (Exception,)),  # all are ours in `load`; not to be stopped is what counts
            (self.load, change, (ValueError,)),
            (self.read_checkpoint, json_values, (ValueError,)),
        ]

    def read_manifest(self, files: Any) -> object:
        (self.folder / "manifest.json").write_text(manifest_text({}, files))
        return read_generation(self.folder)

    def read_features(self, content: Any) -> object:
        path = self.folder / "features.safetensors"
        if not isinstance(content, bytes):
            arrays = {"value:a": self.array}
            text = canonical({"arrays": {"value:a": array_digest(self.array)}, "content": content})
            notes = {"hashed_text": text, "text_sha256": sha256(text.encode()).hexdigest()}
            content = b"".join(pieces_of(arrays, notes))
        path.write_bytes(content)
        return Features.load(path)

    def decode(self, node: Any) -> object:
        return Codec({"a": self.array, "key": np.array(1.0)}).decode(node)

    def load(self, change: tuple[tuple, Any]) -> object:
        content = with_value(self.manifest["content"], *change)
        (self.saved / "manifest.json").write_text(manifest_text(content, self.manifest["files"]))
        try:
            return load(self.saved, self.network)
        except ValueError as error:
            if str(self.saved) not in str(error):
                raise RuntimeError("the error does not name the file") from error
            raise

    def read_checkpoint(self, content: Any) -> object:
        digest = array_digest(self.array)
        text = json.dumps({"format": 1, "arrays": {"a": digest}, "content": content})
        notes = {"checkpoint": text, "sha256": sha256(text.encode()).hexdigest()}
        path = self.folder / "checkpoints" / "epoch-00001.safetensors"
        path.write_bytes(b"".join(pieces_of({digest: self.array}, notes)))
        self.checkpoints.seed()
        return self.checkpoints.load({})


def fuzz(seconds: float, first_seed: int = 0, n_examples: int = 200) -> str:
    """Fuzz each parser in turn, for so many examples a turn, until the time is over; what is found is raised.

    Returns how many examples there were.
    """
    until, turn, n_tried = time.monotonic() + seconds, 0, 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parsers = _Parsers(Path(folder)).all()
        while not turn or time.monotonic() < until:
            for parser, drawn, allowed in parsers:
                n_tried += _tried(parser, drawn, allowed, f"{first_seed} {turn}", n_examples)
            turn += 1
    return f"{n_tried:,} examples in {turn} turns of {len(parsers)} parsers: each was taken or refused as promised"


def _tried(
    parser: Callable[[Any], object],
    drawn: st.SearchStrategy[Any],
    allowed: tuple[type[Exception], ...],
    name: str,
    n_examples: int,
) -> int:
    n_tried = 0

    @seed(name)
    @settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn)
    def run(value: Any) -> None:
        nonlocal n_tried
        n_tried += 1
        with suppress(*allowed):
            parser(value)

    run()
    return n_tried
