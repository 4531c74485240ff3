"""Packages: what is written is read bit for bit, and what is read is checked before any of it is used."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model_handler import CorruptFileError, UnsafeFileError
from model_handler.files.array_files import parse_arrays, pieces_of
from repurpose import LrRepurposer, load, signing_key_pair
from repurpose.offsite import OffsiteOwner, OffsitePackage, OffsiteRepurposer
from repurpose.offsite.adapter_files import AdapterContents, read_adapter, write_adapter
from repurpose.offsite.package import PackageContents, read_package, write_package
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.offsite.packages import Chain, contents_of, exported, owners_network, without_head
from tests.repurpose.saved_files import edit, exchange, files_of

KEY = b"a key of thirty-two bytes, known"


def adapter() -> AdapterContents:
    return AdapterContents("0" * 64, {"blocks.0.up.weight": torch.ones(11, 8)}, {}, None)


def are_equal(found: PackageContents, expected: PackageContents) -> bool:
    """Tell whether two hold the same, dtypes and layouts of memory included."""
    plain = [name for name in vars(expected) if name not in ("state", "architecture")]
    return (
        all(getattr(found, name) == getattr(expected, name) for name in plain)
        and list(found.state) == list(expected.state)
        and all(_is_same(found.state[name], value) for name, value in expected.state.items())
        and found.architecture.said == expected.architecture.said
        and all(_is_same(found.architecture.constants[n], v) for n, v in expected.architecture.constants.items())
    )


def _is_same(found: Tensor, expected: Tensor) -> bool:
    return torch.equal(found, expected) and (found.dtype, found.stride()) == (expected.dtype, expected.stride())


@pytest.mark.parametrize("name", ["package", "package.zip"])
@pytest.mark.parametrize("keys", [{}, {"encryption_key": KEY}])
def test_what_is_written_is_read_bit_for_bit_with_its_id(tmp_path: Path, name: str, keys: dict[str, Any]) -> None:
    contents = contents_of(owners_network(), class_names=(3, 1, 2), preprocessing={"step": "ToTensor"})
    odd = {
        "half": torch.rand(3).bfloat16(),
        "last": torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    }
    constants = {"index": torch.arange(4), "mask": torch.tensor([True, False]), "lowest": torch.tensor([-torch.inf])}
    architecture = replace(contents.architecture, constants=constants)
    contents = replace(contents, state={**contents.state, **odd}, architecture=architecture)
    package_id = write_package(tmp_path / name, contents, **keys)
    found, found_id = read_package(tmp_path / name, expected_hash=package_id, **keys)
    assert are_equal(found, contents)
    opened = OffsitePackage(tmp_path / name, **keys)
    assert (found_id, opened.id, len(package_id)) == (package_id, package_id, 64)
    with pytest.raises(CorruptFileError, match="has the hash"):
        read_package(tmp_path / name, expected_hash="0" * 64, **keys)


@pytest.mark.parametrize("keys", [{}, {"encryption_key": KEY}])
def test_what_an_earlier_package_held_is_gone_from_the_directory(tmp_path: Path, keys: dict[str, Any]) -> None:
    first = contents_of(owners_network(), class_names=(3, 1, 2))
    write_package(tmp_path, first, **keys)
    earlier = {path.name for path in tmp_path.glob("arrays*")}
    write_package(tmp_path, replace(first, state={name: value + 1 for name, value in first.state.items()}), **keys)
    left = {path.name for path in tmp_path.glob("arrays*")}
    assert (len(earlier), len(left)) == (1, 1)
    assert earlier != left


def test_signatures_and_keys_are_checked_at_the_other_end(tmp_path: Path) -> None:
    signing_key, verify_key = signing_key_pair()
    write_package(tmp_path / "p.zip", contents_of(owners_network()), signing_key=signing_key, encryption_key=KEY)
    assert OffsitePackage(tmp_path / "p.zip", verify_key=verify_key, encryption_key=KEY).contents.first == ("blocks.0",)
    with pytest.raises(UnsafeFileError, match="is signed for the verify_key"):
        read_package(tmp_path / "p.zip", verify_key=signing_key_pair()[1], encryption_key=KEY)
    with pytest.raises(UnsafeFileError, match="encrypt"):
        read_package(tmp_path / "p.zip", verify_key=verify_key)
    write_package(tmp_path / "plain", contents_of(owners_network()))
    with pytest.raises(UnsafeFileError, match="is not signed"):
        OffsitePackage(tmp_path / "plain", verify_key=verify_key).network()
    assert repr(OffsitePackage(Path("p.zip"), encryption_key=KEY)) == "OffsitePackage('p.zip')"


@pytest.mark.parametrize("name", ["package", "package.zip"])
def test_one_flipped_byte_or_a_cut_anywhere_is_noticed(tmp_path: Path, name: str) -> None:
    write_package(tmp_path / name, contents_of(owners_network()))
    place = tmp_path / name
    for file in [place] if place.is_file() else [path for path in place.iterdir() if path.name != ".lock"]:
        whole = file.read_bytes()
        for at in {0, 9, len(whole) // 3, len(whole) // 2, len(whole) - 40, len(whole) - 1}:
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            with pytest.raises((CorruptFileError, UnsafeFileError), match=name.replace(".", r"\.")):
                read_package(place)
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CorruptFileError, match=name.replace(".", r"\.")):
            read_package(place)
        file.write_bytes(whole)
    read_package(place)


def test_a_newer_version_and_a_missing_package_are_said_to_be_so(tmp_path: Path) -> None:
    from repurpose import FormatVersionError

    package = exported(tmp_path)
    edit(package, lambda said: said.update(format=2))
    with pytest.raises(FormatVersionError, match=r"has format 2 of offsite packages, .* up to 1: upgrade it"):
        read_package(package)
    with pytest.raises(FileNotFoundError, match=r"there is not a package at .*none: there is nothing of that name"):
        read_package(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="the directory has no manifest"):
        read_package(tmp_path / "empty")


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_a_file_of_another_kind_is_said_by_its_name(tmp_path: Path, suffix: str) -> None:
    write_package(tmp_path / f"package{suffix}", contents_of(owners_network()))
    write_adapter(tmp_path / f"adapter{suffix}", adapter())
    LrRepurposer(small_network()).repurpose(blobs()).save_repurposer(tmp_path / f"saved{suffix}")
    with pytest.raises(ValueError, match=r"is an adapter, and not a package, .*: OffsiteOwner\.plug_in takes it"):
        read_package(tmp_path / f"adapter{suffix}")
    with pytest.raises(ValueError, match=r"is a package, and not an adapter, .*: OffsiteRepurposer\(package\) takes"):
        read_adapter(tmp_path / f"package{suffix}")
    for read in (read_package, read_adapter):
        with pytest.raises(ValueError, match=r"is a saved repurposer, and not .*: repurpose.load\(path\) takes it"):
            read(tmp_path / f"saved{suffix}")
    for name in ("package", "adapter"):
        with pytest.raises(ValueError, match=f"is of an offsite {name}, and no saved repurposer: OffsiteRepurposer"):
            load(tmp_path / f"{name}{suffix}", source_model=small_network())


def test_nothing_but_a_package_is_overwritten(tmp_path: Path) -> None:
    package, contents = exported(tmp_path), contents_of(owners_network(seed=1))
    second = write_package(package, contents)
    assert OffsitePackage(package).id == second
    write_adapter(tmp_path / "adapter", adapter())
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    (tmp_path / "file.zip").write_text("mine")
    (tmp_path / "link").symlink_to(package)
    for name in ("adapter", "notes", "file.zip", "link"):
        with pytest.raises(FileExistsError, match=f"{name} holds something else than a package; give another path"):
            write_package(tmp_path / name, contents)
    assert read_adapter(tmp_path / "adapter").package_id == "0" * 64
    assert (tmp_path / "file.zip").read_text() == (tmp_path / "notes" / "a.txt").read_text() == "mine"


def renamed(items: dict[str, Any], name: str, to: str) -> None:
    items[to] = items.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.pop("first"), "its first is missing"),
        (lambda said: said.update(first="blocks.0"), "its first is 'blocks.0', where a list was expected"),
        (lambda said: said.update(first=[0]), r"its first\[0\]: it is '0', which is no name of a module"),
        (lambda said: said.update(first=[""]), r"its first\[0\]: it is '', which is no name of a module"),
        (lambda said: said.update(last=["a\x1b"]), r"its last\[0\]: it is 'a\\x1b', which is no name of a module"),
        (
            lambda said: renamed(said["tensors"]["state"]["items"], "stem.bias", "stem\x9b"),
            r"'stem\\x9b', which is no name",
        ),
        (lambda said: said.update(first=[], last=[]), "its blocks have no adapter"),
        (lambda said: said.update(first=["blocks.1"]), "a name that comes twice"),
        (lambda said: said.update(classifier=3), "its classifier: it is '3'"),
        (lambda said: said.update(n_inputs_of_head=0), "n_inputs_of_head is 0"),
        (lambda said: said.update(n_inputs_of_head=9), "no head of so many classes"),
        (lambda said: said.update(class_names=["a", "a", "b"]), "class names are not two different ones"),
        (lambda said: said.update(class_names=["a", "b", [1]]), r"class_names\[2\] is a list"),
        (lambda said: said.update(class_names=["a", "b"]), "2 class names, and no head of so many classes"),
        (lambda said: said.update(example_inputs={"shape": [2, 10**12], "dtype": "float32"}), "have the shape"),
        (lambda said: said.update(is_distilled="no"), "is_distilled is 'no'"),
        (lambda said: said.update(preprocessing=[]), "preprocessing"),
        (lambda said: said.update(architecture=[]), "architecture is a list of 0, where a dict"),
        (lambda said: said.update(further=1), "its further is nothing"),
        (lambda said: said.pop("tensors"), "its tensors is None, where a dict"),
        (lambda said: said["tensors"].pop("constants"), "where \\['constants', 'state'\\] were expected"),
        (lambda said: said["tensors"].update(state=[]), "tensors\\['state'\\] is a list of 0"),
        (lambda said: said["tensors"].update(state={"type": "skops", "file": "x"}), "damaged: 'x'"),
        (lambda said: said["tensors"]["state"]["items"].pop("stem.bias"), "which nothing in it names"),
        (lambda said: said["tensors"]["state"]["items"].update(further=3), "'further' is no tensor"),
        (lambda said: said.update(kind="something"), "is not a package"),
        (lambda said: said.update(format=0), "it has format 0"),
        (lambda said: said.update(format="1"), "states no such kind and format"),
    ],
)
def test_a_manifest_that_says_what_cannot_be_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    package = exported(tmp_path)
    edit(package, change)
    with pytest.raises(CorruptFileError, match=message) as caught:
        read_package(package)
    assert str(package) in str(caught.value)


def test_nan_and_what_is_no_plain_tensor_are_neither_written_nor_read(tmp_path: Path) -> None:
    contents = contents_of(owners_network())
    for strange, message in (
        (torch.full((8,), torch.nan), r"its state 'stem\.bias' holds NaN"),
        (torch.ones(8).to_sparse(), r"its state 'stem\.bias' is no tensor of plain numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            write_package(tmp_path / "p", replace(contents, state={**contents.state, "stem.bias": strange}))
    assert not (tmp_path / "p").exists()
    package = exported(tmp_path)
    arrays = {**parse_arrays(bytearray(files_of(package)["arrays.safetensors"].read_bytes()), "").arrays}
    (key,) = [name for name in arrays if name.startswith("state.stem.bias#")]
    arrays[key] = np.full(8, np.nan, dtype=np.float32)
    exchange(package, "arrays.safetensors", b"".join(bytes(piece) for piece in pieces_of(arrays, {})))
    with pytest.raises(CorruptFileError, match=r"its state 'stem\.bias' holds NaN"):
        read_package(package)


def test_the_network_of_a_package_is_the_one_that_was_sent(tmp_path: Path) -> None:
    owner, given = owners_network(), Chain(n_classes=7, seed=4).train()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    package, x = OffsitePackage(exported(tmp_path, owner)), torch.randn(5, 4)
    network = package.network(given)
    assert not network.training
    sent = owner.blocks
    expected = owner.head(sent[5](sent[4](sent[1](sent[0](torch.tanh(owner.stem(x)))))))
    assert torch.equal(network(x), expected)
    assert given.training
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    write_package(tmp_path / "headless", without_head(owner))
    features = OffsitePackage(tmp_path / "headless").network(given)(x)
    assert torch.equal(owner.head(features), expected)


@pytest.mark.parametrize("name", ["package", "package.zip"])
def test_a_missing_key_is_asked_for_by_the_call_that_was_made(tmp_path: Path, name: str) -> None:
    write_package(tmp_path / name, contents_of(owners_network()), encryption_key=KEY)
    with pytest.raises(UnsafeFileError, match=r"key \w+: OffsitePackage\(path, encryption_key=\.\.\.\) with that key"):
        read_package(tmp_path / name)
    with pytest.raises(UnsafeFileError, match=r"OffsiteRepurposer\(package, encryption_key=\.\.\.\) with that key"):
        OffsiteRepurposer(tmp_path / name, source_model=Chain()).save_adapter(tmp_path / "adapter")
    owner = OffsiteOwner(owners_network(), (1, 1), example_inputs=torch.rand(2, 4))
    with pytest.raises(FileExistsError, match=r"OffsiteOwner\.export\(path, encryption_key=\.\.\.\) with that key"):
        owner.export(tmp_path / name, torch.rand(4, 4))
    write_adapter(tmp_path / "adapter", adapter())
    with pytest.raises(UnsafeFileError, match=r"plug_in\(adapter_path, package, encryption_key=\.\.\.\) with that key"):
        owner.plug_in(tmp_path / "adapter", tmp_path / name)
    write_adapter(tmp_path / "sealed", adapter(), encryption_key=KEY)
    with pytest.raises(UnsafeFileError, match=r"plug_in\(adapter_path, encryption_key=\.\.\.\) with that key"):
        owner.plug_in(tmp_path / "sealed", tmp_path / name)


def test_a_package_of_another_id_is_refused(tmp_path: Path) -> None:
    path = exported(tmp_path)
    package = OffsitePackage(path)
    assert repr(package) == f"OffsitePackage({str(path)!r})"
    package_id = package.id
    assert repr(package) == f"OffsitePackage({str(path)!r}, id={package_id[:12]}...)"
    assert OffsitePackage(path, expected_hash=package_id.upper()).id == package_id
    with pytest.raises(
        CorruptFileError, match=f"has the hash {package_id[:12]}..., where 000000000000... was expected"
    ):
        _ = OffsitePackage(path, expected_hash="0" * 64).contents
    with pytest.raises(ValueError, match="expected_hash must be the 64 hexadecimal digits"):
        _ = OffsitePackage(path, expected_hash="abc").contents
