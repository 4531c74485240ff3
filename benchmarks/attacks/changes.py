"""Attacks: each changes a copy of what was saved, by chance from a seed."""

import json
import os
import random
import shutil
import socket
import struct
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attacks.forging import packed
from benchmarks.attacks.hostile import HOSTILE_TEXTS, HOSTILE_VALUES, hostile_files, skops_files
from benchmarks.attacks.opened import Opened, opened
from benchmarks.attacks.saved import Target

_MANY = 3000


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside one that JSON holds."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in items:
        yield from places(inside, (*path, key))


def value_at(value: Any, path: tuple) -> Any:
    """The value in one place."""
    for key in path:
        value = value[key]
    return value


def with_value(value: Any, path: tuple, new: Any) -> Any:
    """A copy of a value with another in one place."""
    if not path:
        return new
    copied = value.copy()
    copied[path[0]] = with_value(value[path[0]], path[1:], new)
    return copied


# Changes of the bytes of a file.


def flipped(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut_or_longer(data: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(10)
    if kind == 0:
        return b""
    if kind == 1:
        return rng.randbytes(rng.choice([1, 8, 4096])) + data
    return data[: rng.randrange(len(data))] if kind < 8 else data + rng.randbytes(rng.choice([1, 8, 4096]))


def exchanged(data: bytes, rng: random.Random) -> bytes:
    return rng.choice(list(hostile_files().values()))


def other_numbers(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with NaN, infinity, other shapes or dtypes, fewer or more arrays; other files as they are."""
    from safetensors.numpy import load, save

    try:
        arrays = load(data)
    except Exception:
        return flipped(data, rng)
    (length,) = struct.unpack_from("<Q", data)
    notes = json.loads(data[8 : 8 + length]).get("__metadata__")
    return save(with_other_numbers(arrays, rng), metadata=notes) if arrays else flipped(data, rng)


def with_other_numbers(arrays: dict[str, np.ndarray], rng: random.Random) -> dict[str, np.ndarray]:
    """The same arrays, but for one change."""
    arrays = dict(arrays)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    what = rng.randrange(9)
    if what == 0 and array.dtype.kind == "f" and array.size:
        array = array.copy()
        with np.errstate(over="ignore"):
            array.reshape(-1)[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e300, 0])
    elif what == 1:
        array = array.reshape(-1)
    elif what == 2:
        with np.errstate(all="ignore"):
            array = array.astype(rng.choice(["float16", "float64", "float32", "int64", "bool", "uint8"]))
    elif what == 3:
        array = array[:0] if array.ndim else array
    elif what == 4:
        array = np.concatenate([array, array]) if array.ndim else array[None]
    elif what == 5:
        array = array.T.copy() if array.ndim > 1 else array[::-1].copy()
    arrays[name] = array
    if what == 6:
        del arrays[name]
    elif what == 7:
        arrays[rng.choice(["../more", "/etc/passwd", "__metadata", "", "a" * 10_000])] = array
    elif what == 8:
        other = rng.choice(sorted(arrays))
        arrays[name], arrays[other] = arrays[other], array
    return arrays


def other_header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header says something else."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
    except (struct.error, ValueError):
        return flipped(data, rng)
    values = [
        *HOSTILE_VALUES,
        [1 << 60],
        [1 << 62, 1 << 62],
        [0, 1 << 60],
        [[0, 1 << 60]],
        [8, 0],
        "F8_E4M3",
        "<U5",
        "O",
    ]
    header = with_value(header, rng.choice(list(places(header))), rng.choice(values))
    if isinstance(header, dict) and header and rng.random() < 0.2:
        header["../../" + next(iter(header))] = header.pop(next(iter(header)))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


ON_BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a bit": flipped,
    "length": cut_or_longer,
    "another file": exchanged,
    "numbers": other_numbers,
    "header": other_header,
}

# Changes of what stands in the place of a file.


def special_file(path: Path, rng: random.Random) -> None:
    """Put what is no file of its own in the place of one."""
    kind = rng.randrange(8)
    if kind == 7:  # the same bytes under a second name, in which they are changed
        other = path.with_name("linked")
        os.link(path, other)
        other.write_bytes(flipped(other.read_bytes(), rng))
        return
    path.unlink()
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to("/dev/zero")
    elif kind == 3:
        path.symlink_to("/etc/passwd")
    elif kind == 4:
        path.symlink_to("nowhere")
    elif kind == 5:
        path.symlink_to(path.name)
    else:
        _bind(path)


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        before = Path.cwd()
        os.chdir(path.parent)  # names of sockets may have a hundred characters
        try:
            bound.bind(path.name)
        finally:
            os.chdir(before)


def other_name(path: Path, rng: random.Random) -> None:
    """Give a file another name that looks the same, or a place outside with a link of the name to it."""
    kind = rng.randrange(4)
    if kind == 0:
        path.rename(path.with_name(path.name.upper()))
    elif kind == 1:
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name.replace("e", "é", 1))))
    elif kind == 2:
        outside = path.parent.parent / f"outside-{path.name}"
        path.rename(outside)
        path.symlink_to(outside)
    else:
        inside = path.with_name("inside")
        path.rename(inside)
        path.symlink_to(inside.name)


# Changes of the value that the plan is.


def other_value(content: Any, rng: random.Random) -> Any:
    return with_value(content, rng.choice(list(places(content))), rng.choice(HOSTILE_VALUES))


def other_keys(content: Any, rng: random.Random) -> Any:
    """One name less, more, or spelt in another way."""
    dicts = [path for path in places(content) if isinstance(value_at(content, path), dict)]
    path = rng.choice(dicts)
    changed = dict(value_at(content, path))
    name = rng.choice(sorted(changed)) if changed else "a"
    value, kind = changed.pop(name, 1), rng.randrange(4)
    if kind == 1:
        changed |= {name: value, rng.choice(["more_", "__class__", "../more", f"{name} "]): value}
    elif kind == 2:
        changed[name.swapcase()] = value
    elif kind == 3:
        changed[unicodedata.normalize("NFD", f"{name}é")] = value
    return with_value(content, path, changed)


def many(content: Any, rng: random.Random) -> Any:
    """A list of the plan, such as histories or heads, thousands of times as long."""
    lists = [path for path in places(content) if isinstance(value_at(content, path), list) and value_at(content, path)]
    path = rng.choice(lists)
    return with_value(content, path, value_at(content, path) * _MANY)


def swapped(content: Any, rng: random.Random) -> Any:
    """Two values of the plan in each other's places."""
    one, other = rng.sample([path for path in places(content) if path], 2)
    if one == other[: len(one)] or other == one[: len(other)]:
        return other_value(content, rng)
    first, second = value_at(content, one), value_at(content, other)
    return with_value(with_value(content, one, second), other, first)


ON_PLAN: dict[str, Callable[[Any, random.Random], Any]] = {
    "plan": other_value,
    "keys": other_keys,
    "many": many,
    "swapped": swapped,
}
KINDS = (*ON_BYTES, *ON_PLAN, "plan", "plan", "text", "files", "no file", "name")


def attack(target: Target, run: str, rng: random.Random, folder: Path) -> tuple[str, Path]:
    """A changed copy of what was saved: the kind of attack, and where the copy is."""
    copy = folder / target.path.name
    if target.kind == "sealed" or (target.kind == "archive" and run == "as it is" and rng.random() < 0.5):
        kind = rng.choice(list(ON_BYTES))
        copy.write_bytes(ON_BYTES[kind](target.path.read_bytes(), rng))
        return kind, copy
    if target.kind == "archive":
        return _attack_inside(target, run, rng, copy)
    if target.path.is_dir():
        shutil.copytree(target.path, copy)
    else:
        shutil.copy(target.path, copy)
    copied = opened(target.kind, copy, run)
    kind = rng.choice([*KINDS, *(["skops"] * 4 if copied.skops else [])])
    if kind in ON_PLAN:
        copied.write_content(ON_PLAN[kind](copied.content, rng))
    elif kind == "text":
        copied.write_content(with_value(copied.content, rng.choice(list(places(copied.content))), _HERE), _spelt(rng))
    elif kind == "files" and copied.can_name_files:
        copied.write_files(other_value(copied.files, rng) if rng.random() < 0.5 else other_keys(copied.files, rng))
    elif kind in ("no file", "name"):
        change = special_file if kind == "no file" else other_name
        change(rng.choice([copied.plan_file, *copied.payloads.values()]), rng)
    elif kind == "skops":
        name = copied.skops[0]
        copied.replace(name, skops_files(copied.payloads[name].read_bytes(), rng))
    else:
        kind = kind if kind in ON_BYTES else "a bit"
        _change_bytes(copied, kind, rng)
    return kind, copy


def _attack_inside(target: Target, run: str, rng: random.Random, copy: Path) -> tuple[str, Path]:
    """Attack what a zip file holds as if it were a directory, and pack what became of it into the copy."""
    unpacked, changed = copy.parent / "unpacked", copy.parent / "changed"
    with zipfile.ZipFile(target.path) as archive:
        archive.extractall(unpacked)
        names = archive.namelist()
    changed.mkdir()
    kind, attacked = attack(replace(target, kind="directory", path=unpacked), run, rng, changed)
    copy.write_bytes(packed(attacked, names))
    return kind, copy


def _change_bytes(copied: Opened, kind: str, rng: random.Random) -> None:
    name = rng.choice([*copied.payloads, "the plan"])
    if kind == "numbers" and copied.arrays is not None:
        copied.write_arrays(with_other_numbers(copied.arrays, rng))
    elif name == "the plan" or name not in copied.payloads:
        copied.plan_file.write_bytes(ON_BYTES[kind](copied.plan_file.read_bytes(), rng))
    else:
        copied.replace(name, ON_BYTES[kind](copied.payloads[name].read_bytes(), rng))


_HERE = "@@the place of another text@@"


def _spelt(rng: random.Random) -> Callable[[str], str]:
    text = rng.choice(HOSTILE_TEXTS)
    return lambda plan: plan.replace(json.dumps(_HERE), text)
