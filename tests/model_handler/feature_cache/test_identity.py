"""Identities are the same in another process, differ where anything does, and are refused where that cannot be told."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms

from model_handler.feature_cache.identity import Identity, UnknownIdentity, installed_version

FACTOR = 2


def digest(value: Any, *, own_code: bool = True) -> str:
    identity = Identity(own_code=own_code)
    identity.take(value)
    return identity.digest


def scaled(x: Any) -> Any:
    return FACTOR * helped(x)


def helped(x: Any) -> Any:
    return x + 1


class Settings:
    size = 3

    def __init__(self, value: Any) -> None:
        self.value = value


DIFFERENT: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 0,
    lambda: 0.0,
    lambda: False,
    lambda: "0",
    lambda: b"0",
    lambda: ["0"],
    lambda: ("0",),
    lambda: [["0"], []],
    lambda: [["0", []]],
    lambda: {"a": 1, "b": 2},
    lambda: {"a": 2, "b": 1},
    lambda: {"a", "b"},
    lambda: {"a", "c"},
    lambda: np.zeros(4, np.float32),
    lambda: np.zeros((2, 2), np.float32),
    lambda: np.zeros(4, np.int32),
    lambda: np.array(["a", None], object),
    lambda: torch.zeros(4),
    lambda: torch.zeros(4, dtype=torch.bfloat16),
    lambda: torch.float32,
    lambda: np,
    lambda: torch.relu,
    lambda: torch.abs,
    lambda: partial(torch.sum, dim=1),
    lambda: partial(torch.sum, dim=2),
    lambda: transforms.Resize(8),
    lambda: transforms.Resize(9),
    lambda: Settings(1),
    lambda: Settings(2),
    lambda: scaled,
    lambda: helped,
    lambda: lambda x: x + 1,
    lambda: lambda x: x + 2,
    lambda: closing_over(1),
    lambda: closing_over(2),
]


def closing_over(number: int) -> Callable[[int], int]:
    return lambda x: x * number


def test_each_differs_from_all_others_and_is_itself_again() -> None:
    digests = [digest(make()) for make in DIFFERENT]
    assert len(set(digests)) == len(DIFFERENT)
    assert digests == [digest(make()) for make in DIFFERENT]


def test_what_a_function_reads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(scaled)
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3)
    assert digest(scaled) != before
    monkeypatch.undo()
    assert digest(scaled) == before
    monkeypatch.setattr(sys.modules[__name__], "helped", lambda x: x - 1)
    assert digest(scaled) != before


def test_what_a_class_holds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(Settings(1))
    monkeypatch.setattr(Settings, "size", 4)
    assert digest(Settings(1)) != before


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    code = f"from {__name__} import *; print(*[digest(make()) for make in DIFFERENT])"
    options: dict[str, Any] = {"capture_output": True, "text": True, "check": True, "cwd": Path(__file__).parents[3]}
    found = subprocess.run([sys.executable, "-c", code], **options).stdout.split()
    assert found == [digest(make()) for make in DIFFERENT]


def test_modules_that_code_imports_when_it_runs_are_installed_ones_or_there_is_none() -> None:
    def of_an_installed_package(x: Any) -> Any:
        import math

        return math.sqrt(x)

    def of_the_users_own(x: Any) -> Any:
        def inside() -> Any:
            from tests.model_handler import networks

            return networks

        return inside()

    assert digest(of_an_installed_package) == digest(of_an_installed_package)
    with pytest.raises(UnknownIdentity, match=r"'tests.model_handler', which .*imports when it runs"):
        digest(of_the_users_own)


def test_a_tensor_whose_bytes_are_not_told_has_none() -> None:
    with pytest.raises(UnknownIdentity, match="on meta, whose bytes are not told"):
        digest(torch.empty(2, device="meta"))


def looped() -> list[Any]:
    loop: list[Any] = [1]
    loop.append(loop)
    return loop


def test_a_value_that_holds_itself_ends() -> None:
    assert digest(looped()) == digest(looped())


@pytest.mark.parametrize("value", [Lock(), (number for number in [1])])
def test_what_cannot_be_taken_apart_has_none(value: Any) -> None:
    with pytest.raises(UnknownIdentity):
        digest(value)


def test_code_of_the_users_own_may_be_refused() -> None:
    for value in (scaled, Settings, Settings(1), [helped], partial(helped, 1), lambda x: x):
        with pytest.raises(UnknownIdentity, match="of no installed package"):
            digest(value, own_code=False)
    assert digest(transforms.Resize(8), own_code=False) == digest(transforms.Resize(8))


def test_installed_packages_have_a_version_and_a_script_has_none() -> None:
    assert installed_version("torch.nn.modules") == str(torch.__version__)
    assert installed_version("json.decoder") is not None
    assert installed_version("__main__") is installed_version("tests.model_handler") is None
