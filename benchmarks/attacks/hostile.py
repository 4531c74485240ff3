"""Hostile contents: files that would run code in the wrong reader, values of JSON, texts of JSON, skops files."""

import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

_BIG = 50_000_000  # zeros in a bomb, which deflate to a thousandth


class _Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("true",)


def hostile_files() -> dict[str, bytes]:
    """Files that run code where they are opened by the wrong reader, or are nothing."""
    zipped, legacy, array, packed = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"a": _Payload()}, zipped)
    torch.save({"a": _Payload()}, legacy, _use_new_zipfile_serialization=False)
    np.save(array, np.array([_Payload()], dtype=object), allow_pickle=True)
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../outside"))
    return {
        "a pickle": pickle.dumps(_Payload()),
        "a pickle of protocol 0": pickle.dumps(_Payload(), protocol=0),
        "a torch pickle": zipped.getvalue(),
        "a legacy torch pickle": legacy.getvalue(),
        "an object array": array.getvalue(),
        "a bomb": bomb(),
        "a tar": packed.getvalue(),
        "nothing": b"",
        "zeros": bytes(4096),
        "a long header": struct.pack("<Q", 1 << 60) + b"{}",
        "a header of all": struct.pack("<Q", (1 << 64) - 1),
        "deep lists": b"[" * 100_000,
        "deep dicts": b'{"a":' * 100_000,
        "text": b"import os; os.system('true')",
        "what Xfer evaluated": b'{"model": "__import__(\'os\').system(\'true\')", "parameters": "eval"}',
    }


HOSTILE_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**9,
    2**63,
    10**400,
    1.5e308,
    "",
    "../../etc/passwd",
    "/etc/passwd",
    "os:system",
    "os.system",
    "__class__",
    "__reduce__",
    "__import__('os').system('true')",
    "cuda",
    "meta",
    "a" * 100_000,
    "\ud800",
    "\u0000",
    "e\u0301",
    [],
    [[]],
    [[[[[[[[1]]]]]]]],
    {},
    {"__class__": "os.system"},
    {"type": "float", "value": "nan"},
    {"type": "float", "value": "inf"},
    {"type": "float", "value": "1e5"},
    {"type": "texts", "dtype": "<U500000000", "shape": [4], "items": ["a"] * 4},
    {"type": "texts", "dtype": "<U20000000", "shape": [1], "items": ["a"]},
    {"type": "texts", "dtype": "<U1", "shape": [1 << 40], "items": ["a"]},
    {"type": "texts", "dtype": "object", "shape": [0, 1 << 40], "items": []},
    {"type": "texts", "dtype": "O", "shape": [1], "items": [{"type": "dict", "items": {}}]},
    {"type": "skops", "file": "../x.skops"},
    {"type": "skops", "file": "/dev/zero"},
    {"type": "array", "key": "none", "order": "C"},
    {"type": "array", "key": ["none"], "order": "C"},
    {"type": "part", "class": "os.system", "fields": {"type": "dict", "items": {}}},
    {"type": "part", "class": ["GpModel"], "fields": 1},
    {"type": ["part"]},
    {"type": "pickle", "data": "Y29zCnN5c3RlbQo="},
    {"type": "device", "name": "meta"},
    {"type": "device", "name": "cuda:99"},
    {"type": "pairs", "items": [[[1], 2]]},
    {"type": "random_state", "state": 1},
    {"type": "random_state", "state": {"type": "tuple", "items": ["MT19937", [0] * 624, 10**9, 0, 0.0]}},
    {"type": "logistic_regression", "parts": {}},
    {"type": "logistic_regression", "parts": {"type": "dict", "items": {"parameters": {}, "learned": {}}}},
    {"type": "tuple", "items": "abc"},
    {"type": "tensor", "array": {"type": "texts", "dtype": "<U1", "shape": [1], "items": ["a"]}},
    {"type": "bfloat16", "array": 1},
    {"type": "complex", "array": [1, 2]},
]

# What a text of JSON holds in the place of one value, and no canonical one has.
HOSTILE_TEXTS = (
    "NaN",
    "-Infinity",
    "1e999",
    "1.0e0",
    "9" * 5000,
    "-0",
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 100_000 + "1" + "}" * 100_000,
    "[" * 900 + "]" * 900,
    '{"type":1,"type":2}',
    '"\\u0061"',
    '"\t"',
    " 1 ",
    "undefined",
)


def bomb(entries: dict[str, bytes] | None = None) -> bytes:
    """A zip of some entries, and one that is a thousand times as large as the file."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (entries or {}).items():
            archive.writestr(name, data)
        archive.writestr("zeros.npy", bytes(_BIG))
    return made.getvalue()


def _zip_of(entries: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return made.getvalue()


def _dumped(estimator: Any) -> bytes:
    from skops.io import dumps

    return dumps(estimator)


def _huge_array() -> bytes:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def skops_files(honest: bytes, rng: random.Random) -> bytes:
    """A skops file that asks for too much, or holds no head: made of an honest one."""
    with zipfile.ZipFile(io.BytesIO(honest)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(entries["schema.json"])
    rows = np.arange(24.0).reshape(6, 4)
    made: list[Callable[[], bytes]] = [
        lambda: bomb(entries),
        lambda: bomb({"schema.json": entries["schema.json"]}),
        lambda: _zip_of({**entries, "../../outside": b"1"}),
        lambda: _zip_of({**entries, "schema.json": b"[" * 100_000}),
        lambda: _zip_of({**entries, "schema.json": b'{"a":' * 100_000 + b"1" + b"}" * 100_000}),
        lambda: _zip_of({name: _huge_array() if name.endswith(".npy") else data for name, data in entries.items()}),
        lambda: _zip_of({name: pickle.dumps(1) if name.endswith(".npy") else data for name, data in entries.items()}),
        lambda: _zip_of({"schema.json": json.dumps({**schema, "__module__": "os", "__class__": "system"}).encode()}),
        lambda: _zip_of({**entries, "schema.json": json.dumps({**schema, "__loader__": "FunctionNode"}).encode()}),
        lambda: _zip_of({name: entries[name] for name in entries if name == "schema.json"}),
        lambda: _zip_of({**entries, "schema.json": changed_json(entries["schema.json"], rng)}),
        lambda: _dumped(StandardScaler().fit(rows)),
        lambda: _dumped(PCA(2).fit(rows)),
        lambda: _dumped(LinearRegression().fit(rows, rows[:, 0])),
        lambda: _dumped({"a": 1}),
        lambda: _dumped(rows),
    ]
    return rng.choice(made)()


def changed_json(text: bytes, rng: random.Random) -> bytes:
    """A JSON text with another value somewhere."""
    from benchmarks.attacks.changes import places, with_value

    content = json.loads(text)
    changed = with_value(content, rng.choice(list(places(content))), rng.choice(HOSTILE_VALUES))
    return json.dumps(changed).encode()
