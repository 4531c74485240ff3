"""Attacks on saved files: damaged, exchanged and hostile ones, each loaded and asked as a user would.

Three runs: files as the attack leaves them; with every size and hash made right again, as an attacker can; and in the
format of versions before there were hashes. What happened is counted: `executed` (code of the file's choice ran),
`hang` (longer than 20 seconds), `memory` (200 MB more than the honest file), `bare` (an error that does not name the
file, or is none of ours), `silent` (other answers), `same` (the same answers), `clear` (an error of ours, naming the
file). The first four are to be 0 in all runs, `silent` in the first.
"""

import argparse
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model_handler import CorruptFileError, Features, FormatVersionError, UnsafeFileError
from model_handler.files.canonical_json import canonical
from repurpose import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    MetaModelRepurposer,
    NeuralNetworkFineTuneRepurposer,
    SvmRepurposer,
    load,
)

OUTCOMES = ("executed", "hang", "memory", "bare", "silent", "same", "clear")
RUNS = ("as it is", "hashes made right", "without hashes")
_SECONDS, _MEMORY = 20, 200_000_000
_OURS = (CorruptFileError, UnsafeFileError, FormatVersionError)
_DANGEROUS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
)


class NeighboursRepurposer(MetaModelRepurposer):
    """A user's head that is an estimator of scikit-learn, so that a skops file is attacked too."""

    def _train_model_from_features(self, features: np.ndarray, labels: np.ndarray, layers: Any) -> Any:
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(3).fit(features, labels)

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model.predict_proba(features)


@dataclass(frozen=True)
class Target:
    """Something saved: where, how it is loaded and asked, and what it answered."""

    name: str
    path: Path
    answers: Callable[[Path], list[bytes]]
    expected: list[bytes]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def rows() -> tuple[np.ndarray, np.ndarray]:
    codes = np.arange(24) % 3
    made = np.random.default_rng(0).normal(size=(24, 4)) + 2 * codes[:, None]
    return made.astype(np.float32), np.array(["apple", "fig", "pear"])[codes]


def answers(path: Path) -> list[bytes]:
    """The bytes of everything that a saved repurposer says of some rows."""
    repurposer = load(path, network())
    X, _ = rows()
    said = [repurposer.predict_label(X[:5]), repurposer.predict_probability(X[:5])]
    if hasattr(repurposer, "training_features_"):
        said += [repurposer.unfamiliarity(X[:5]), repurposer.predict_set(X[:5], 0.8).members]
    return [np.ascontiguousarray(array).tobytes() for array in said]


def answers_of_features(path: Path) -> list[bytes]:
    features = Features.load(path)
    return [features.matrix.tobytes(), repr(features.labels.tolist()).encode(), repr(features.layer_names).encode()]


def targets(folder: Path) -> list[Target]:
    """One of each kind, saved."""
    common: dict[str, Any] = {"random_state": 0, "verbose": False, "device": "cpu"}
    on_layer = {"source_model": network(), "feature_layer_names": ["1"], **common}
    X, y = rows()
    made: dict[str, Any] = {
        "lr": LrRepurposer(**on_layer, c=1.0),
        "svm": SvmRepurposer(**on_layer),
        "gp": GpRepurposer(**on_layer),
        "laplace": LaplaceRepurposer(**on_layer, c=1.0),
        "bnn": BnnRepurposer(**on_layer, c=1.0, num_epochs=2, num_samples_mc_prediction=4, n_hidden=3),
        "neighbours": NeighboursRepurposer(**on_layer),
        "fine-tuned": NeuralNetworkFineTuneRepurposer(network(), "1", num_epochs=1, **common),
    }
    found = []
    for name, repurposer in made.items():
        repurposer.repurpose(X, y)
        if name not in ("fine-tuned",):
            repurposer.predict_set(X[:2], 0.8)  # makes the folds, which are saved too
        repurposer.save_repurposer(folder / name)
        found.append(Target(name, folder / name, answers, answers(folder / name)))
    Features({"a": X, "b": X[:, :2]}, y).save(folder / "features.safetensors")
    path = folder / "features.safetensors"
    return [*found, Target("features", path, answers_of_features, answers_of_features(path))]


# What stands in the place of a file.


class _Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("true",)


def hostile_files() -> dict[str, bytes]:
    """Files that run code where they are opened by the wrong reader, or are nothing."""
    zipped, array = io.BytesIO(), io.BytesIO()
    torch.save({"a": _Payload()}, zipped)
    np.save(array, np.array([_Payload()], dtype=object), allow_pickle=True)
    return {
        "a pickle": pickle.dumps(_Payload()),
        "a torch pickle": zipped.getvalue(),
        "an object array": array.getvalue(),
        "nothing": b"",
        "zeros": bytes(4096),
        "a long header": struct.pack("<Q", 1 << 60) + b"{}",
        "deep JSON": b"[" * 100_000,
        "text": b"import os; os.system('true')",
    }


HOSTILE_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    10**9,
    10**400,
    1.5e308,
    "",
    "../../etc/passwd",
    "os:system",
    "a" * 100_000,
    "\ud800",
    [],
    [[]],
    {},
    {"type": "float", "value": "nan"},
    {"type": "float", "value": "inf"},
    {"type": "texts", "dtype": "<U500000000", "shape": [4], "items": ["a"] * 4},
    {"type": "texts", "dtype": "<U1", "shape": [1 << 40], "items": ["a"]},
    {"type": "texts", "dtype": "object", "shape": [0, 1 << 40], "items": []},
    {"type": "skops", "file": "../x.skops"},
    {"type": "array", "key": "none", "order": "C"},
    {"type": "part", "class": "os.system", "fields": {"type": "dict", "items": {}}},
    {"type": "device", "name": "meta"},
    {"type": "pairs", "items": [[[1], 2]]},
    {"type": "random_state", "state": 1},
    {"type": "logistic_regression", "parts": {}},
]


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside one that JSON holds."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in items:
        yield from places(inside, (*path, key))


def with_value(value: Any, path: tuple, new: Any) -> Any:
    """A copy of a value with another in one place."""
    if not path:
        return new
    copied = value.copy()
    copied[path[0]] = with_value(value[path[0]], path[1:], new)
    return copied


# The attacks: each changes a copy of what was saved and says what it did.


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut_or_longer(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))] if rng.random() < 0.7 else data + rng.randbytes(rng.choice([1, 8, 4096]))


def exchanged(data: bytes, rng: random.Random) -> bytes:
    return rng.choice(list(hostile_files().values()))


def other_numbers(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with NaN, infinity, other shapes or dtypes, fewer or more arrays; other files as they are."""
    from safetensors.numpy import load, save

    try:
        arrays = load(data)
    except Exception:
        return flipped(data, rng)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    what = rng.randrange(7)
    if what == 0 and array.dtype.kind == "f" and array.size:
        array = array.copy()
        with np.errstate(over="ignore"):
            array.reshape(-1)[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e300, 0])
    elif what == 1:
        array = array.reshape(-1)
    elif what == 2:
        array = array.astype(rng.choice(["float16", "int64", "bool", "uint8"]))
    elif what == 3:
        array = array[:0] if array.ndim else array
    elif what == 4:
        array = np.concatenate([array, array]) if array.ndim else array[None]
    arrays[name] = array
    if what == 5:
        del arrays[name]
    elif what == 6:
        arrays["../more"] = array
    return save(arrays)


ON_BYTES = {
    "a bit": flipped,
    "length": cut_or_longer,
    "another file": exchanged,
    "numbers": other_numbers,
}


def special_file(path: Path, rng: random.Random) -> None:
    """Put what is no file of its own in the place of one."""
    path.unlink()
    kind = rng.randrange(4)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to("/etc/passwd")


def attack(target: Target, run: str, rng: random.Random, folder: Path) -> tuple[str, Path]:
    """A changed copy of what was saved: the kind of attack, and where the copy is."""
    copy = folder / target.path.name
    if target.path.is_file():
        kind = rng.choice([*ON_BYTES, "no file"])
        shutil.copy(target.path, copy)
        if kind == "no file":
            special_file(copy, rng)
        else:
            copy.write_bytes(ON_BYTES[kind](copy.read_bytes(), rng))
        return kind, copy
    shutil.copytree(target.path, copy)
    whole = json.loads((copy / "manifest.json").read_text())
    if run == "without hashes":
        whole = _as_older_format(copy, whole)
    files = {name: copy / entry["file"] for name, entry in whole["files"].items()}
    kind = rng.choice([*ON_BYTES, "no file", "plan", "plan", "plan", "files"])
    plan_file = copy / ("repurposer.json" if run == "without hashes" else "manifest.json")
    if kind == "plan":
        content = whole["content"]
        where = rng.choice(list(places(content)))
        whole["content"] = with_value(content, where, rng.choice(HOSTILE_VALUES))
        _write_plan(plan_file, whole, run)
    elif kind == "files" and run != "without hashes":
        whole["files"] = with_value(
            whole["files"], rng.choice(list(places(whole["files"]))), rng.choice(HOSTILE_VALUES)
        )
        _write_plan(plan_file, whole, run)
    elif kind == "no file":
        special_file(rng.choice([plan_file, *files.values()]), rng)
    else:
        name = rng.choice([*files, "the plan"])
        change = ON_BYTES.get(kind, flipped)
        if name == "the plan":
            plan_file.write_bytes(change(plan_file.read_bytes(), rng))
        else:
            data = change(files[name].read_bytes(), rng)
            files[name].write_bytes(data)
            if run == "hashes made right":
                whole["files"][name] = _exchange(copy, name, data)
                _write_plan(plan_file, whole, run)
    return kind, copy


def _write_plan(file: Path, whole: dict[str, Any], run: str) -> None:
    if run == "without hashes":
        text = json.dumps(whole["content"])
    else:
        signed = {"content": whole["content"], "files": whole["files"]}
        digest = sha256(canonical(signed).encode()).hexdigest() if run == "hashes made right" else whole["sha256"]
        text = canonical({**signed, "sha256": digest})
    file.write_text(text, encoding="utf-8", errors="surrogatepass")


def _exchange(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    digest = sha256(data).hexdigest()
    stem, _, suffix = name.rpartition(".")
    file = f"{stem}-{digest[:32]}.{suffix}"
    (folder / file).write_bytes(data)
    return {"file": file, "size": len(data), "sha256": digest}


def _as_older_format(folder: Path, whole: dict[str, Any]) -> dict[str, Any]:
    """The directory as format 2 had it."""
    for name, entry in whole["files"].items():
        (folder / entry["file"]).rename(folder / name)
        entry["file"] = name
    whole["content"]["format"] = 2
    (folder / "manifest.json").unlink()
    (folder / "repurposer.json").write_text(json.dumps(whole["content"]))
    return whole


# What happens.

_executed: list[str] = []
_watched = False


def _watch() -> None:
    """Note every event by which a file could have had code run; such a hook stays for the life of the process."""
    global _watched
    if _watched:
        return
    _watched = True

    def hook(event: str, arguments: tuple) -> None:
        if event in _DANGEROUS:
            _executed.append(event)

    sys.addaudithook(hook)


class _Hang(BaseException):
    pass


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(target: Target, path: Path) -> tuple[str, str]:
    """What became of one attempt, and what was said."""
    _watch()
    _executed.clear()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with _time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = target.answers(path)
        said, result = "", "same" if found == target.expected else "silent"
    except _Hang:
        said, result = "", "hang"
    except _OURS as error:
        said, result = str(error), "clear" if path.name in str(error) else "bare"
    except FileNotFoundError as error:
        said, result = str(error), "clear" if path.name in str(error) else "bare"
    except BaseException as error:  # also what no handler of a user would catch
        said, result = f"{type(error).__name__}: {error}", "clear" if _is_clear(error, path) else "bare"
    if _executed:
        return "executed", f"{_executed[0]}; {said}"
    if 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) > _MEMORY:
        return "memory", said
    return result, said


def _is_clear(error: BaseException, path: Path) -> bool:
    """Whether an error of another class is one of those that ask for something, which the file may have made needed."""
    return type(error) is ValueError and path.name in str(error)


def attempts(found: list[Target], n: int, seed: int) -> Iterator[tuple[str, str, str, str, str]]:
    """The run, the target, the kind of attack, the outcome and what was said of each attempt."""
    for number in range(n):
        rng = random.Random(f"{seed} {number}")
        run, target = RUNS[number % len(RUNS)], found[(number // len(RUNS)) % len(found)]
        if target.path.is_file() and run != "as it is":
            run = "as it is"
        with tempfile.TemporaryDirectory() as folder:
            kind, path = attack(target, run, rng, Path(folder))
            yield run, target.name, kind, *outcome(target, path)
            with suppress(OSError):
                path.unlink()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks attacks", description=__doc__)
    parser.add_argument("--attempts", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print every attempt that is to be 0")
    given = parser.parse_args(arguments)
    counts: dict[str, Counter[str]] = {run: Counter() for run in RUNS}
    by_kind: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for run, name, kind, result, said in attempts(targets(Path(folder)), given.attempts, given.seed):
            counts[run][result] += 1
            by_kind.setdefault(kind, Counter())[result] += 1
            is_bad = result in OUTCOMES[:4] or (result == "silent" and run == "as it is")
            if given.show and is_bad:
                print(f"{result}: {run}, {name}, {kind}: {said[:300]}", flush=True)
    for title, table in (("run", counts), ("attack", by_kind)):
        print(f"\n| {title} | " + " | ".join(OUTCOMES) + " |\n|---|" + "---|" * len(OUTCOMES))
        for row, counted in table.items():
            print(f"| {row} | " + " | ".join(str(counted[each]) for each in OUTCOMES) + " |")


if __name__ == "__main__":
    main()
