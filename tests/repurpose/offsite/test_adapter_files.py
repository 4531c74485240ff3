"""Adapter files: blocks and head, and nothing that is none of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model_handler import CorruptFileError, UnsafeFileError
from repurpose import signing_key_pair
from repurpose.offsite.adapter_files import AdapterContents, read_adapter, write_adapter
from tests.repurpose.saved_files import edit, plan_of

KEY = b"a key of thirty-two bytes, known"
WHOLE = AdapterContents(
    "ab" * 32,
    {"blocks.0.weight": torch.rand(3, 2), "blocks.3.weight": torch.rand(2, 3).bfloat16()},
    {"weight": torch.rand(2, 5), "bias": torch.rand(2)},
    ("yes", "no"),
)


@pytest.mark.parametrize("name", ["adapter", "adapter.zip"])
def test_what_is_written_is_read_bit_for_bit(tmp_path: Path, name: str) -> None:
    signing_key, verify_key = signing_key_pair()
    digest = write_adapter(tmp_path / name, WHOLE, signing_key=signing_key, encryption_key=KEY)
    found = read_adapter(tmp_path / name, expected_hash=digest, verify_key=verify_key, encryption_key=KEY)
    assert (found.package_id, found.class_names) == (WHOLE.package_id, WHOLE.class_names)
    for part in ("blocks", "head"):
        wanted = getattr(WHOLE, part)
        assert getattr(found, part).keys() == wanted.keys()
        assert all(torch.equal(value, wanted[name]) for name, value in getattr(found, part).items())
    with pytest.raises(UnsafeFileError, match="is signed for the verify_key"):
        read_adapter(tmp_path / name, verify_key=signing_key_pair()[1], encryption_key=KEY)


def test_the_manifest_says_the_package_and_the_classes_and_nothing_else(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", WHOLE)
    said = plan_of(tmp_path / "adapter")
    tensors = said.pop("tensors")
    assert said == {"format": 1, "kind": "offsite adapter", "package": "ab" * 32, "class_names": ["yes", "no"]}
    assert tensors.keys() == {"blocks", "head"}
    names = {path.name.partition("-")[0] for path in (tmp_path / "adapter").iterdir()}
    assert names == {"manifest.json", "arrays", ".lock"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": {}}, "an adapter without blocks is none"),
        ({"head": {"bias": torch.rand(2)}}, r"a head has \['weight', 'bias'\], and this one \['bias'\]"),
        ({"head": {**WHOLE.head, "scale": torch.rand(2)}}, r"and this one \['bias', 'scale', 'weight'\]"),
        ({"head": {"weight": torch.rand(2)}}, "the weight of a head has two axes"),
        (
            {"head": {"weight": torch.rand(2, 5), "bias": torch.rand(3)}},
            r"its head of \[2, 3\] rows is not one of its 2",
        ),
        ({"class_names": ("yes", "no", "maybe")}, "rows is not one of its 3 classes"),
        ({"class_names": ("yes", "yes")}, "rows is not one of its 2 classes, all of them different"),
        ({"class_names": None}, "rows is not one of its 0 classes"),
        ({"blocks": {"a": torch.tensor([1.0, torch.inf])}}, "'a' holds numbers that are not finite"),
        ({"blocks": {"a": torch.arange(3)}}, "'a' holds numbers that are not finite, or none that learn"),
    ],
)
def test_what_is_no_adapter_is_neither_written_nor_read(
    tmp_path: Path, changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = replace(WHOLE, **changes)
    with pytest.raises(ValueError, match=message):
        write_adapter(tmp_path / "adapter", contents)
    assert not (tmp_path / "adapter").exists()
    with monkeypatch.context() as patch:
        patch.setattr("repurpose.offsite.adapter_files._check", lambda contents: None)
        write_adapter(tmp_path / "adapter", contents)
    with pytest.raises(CorruptFileError, match=message):
        read_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("package_id", [7, "ab" * 31, "AB" * 32, "ab" * 32 + "\n", "\x1b[2J" + "a" * 60])
def test_a_package_id_that_is_none_is_refused(tmp_path: Path, package_id: object) -> None:
    write_adapter(tmp_path / "adapter", WHOLE)
    edit(tmp_path / "adapter", lambda said: said.update(package=package_id))
    with pytest.raises(CorruptFileError, match=r"its package: '.*' is no id of a package, 64 digits") as caught:
        read_adapter(tmp_path / "adapter")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a\0", "a" * 2_000, "a\x1b[2J", "a\x9b"])
def test_a_class_name_that_numpy_would_change_or_fill_the_memory_with_is_refused(tmp_path: Path, name: str) -> None:
    write_adapter(tmp_path / "adapter", WHOLE)
    edit(tmp_path / "adapter", lambda content: content["class_names"].__setitem__(0, name))
    with pytest.raises(CorruptFileError, match="the class name 'a") as caught:
        read_adapter(tmp_path / "adapter")
    assert str(caught.value).isprintable()


def test_half_of_a_character_is_no_class_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the class name 'a\\ud800' is of 2 characters, or has control"):
        write_adapter(tmp_path / "adapter", replace(WHOLE, class_names=("a\ud800", "no")))
