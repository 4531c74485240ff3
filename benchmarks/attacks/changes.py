"""Attacks: each changes a copy of what was saved, by chance from a seed."""

import io
import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.attacks.forging import forged_file, signed
from benchmarks.attacks.saved import Target
from model_handler.files.canonical_json import canonical


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
                whole["files"][name] = forged_file(copy, name, data)
                _write_plan(plan_file, whole, run)
    return kind, copy


def _write_plan(file: Path, whole: dict[str, Any], run: str) -> None:
    if run == "without hashes":
        text = json.dumps(whole["content"])
    else:
        text = signed(whole["content"], whole["files"]) if run == "hashes made right" else canonical(whole)
    file.write_text(text, encoding="utf-8", errors="surrogatepass")


def _as_older_format(folder: Path, whole: dict[str, Any]) -> dict[str, Any]:
    """The directory as format 2 had it."""
    for name, entry in whole["files"].items():
        (folder / entry["file"]).rename(folder / name)
        entry["file"] = name
    whole["content"]["format"] = 2
    (folder / "manifest.json").unlink()
    (folder / "repurposer.json").write_text(json.dumps(whole["content"]))
    return whole
