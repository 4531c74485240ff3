"""Saving as users call it: a directory or one file, encrypted and signed or not, loaded as it was."""

import json
import logging
import os
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_handler import CorruptFileError, UnsafeFileError
from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer, Repurposer, load, signing_key_pair
from repurpose.persistence.container import encryption
from tests.repurpose.examples import KnnRepurposer, blob_features, blobs, identity_network, lr, small_network
from tests.repurpose.persistence.container.test_encryption import by_the_documented_layout

KEY = b"k" * 32
SIGNING, VERIFYING = signing_key_pair()
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "encrypted": ({"encryption_key": KEY}, {"encryption_key": KEY}),
    "by passphrase": ({"encryption_key": "open sesame"}, {"encryption_key": "open sesame"}),
    "signed": ({"signing_key": SIGNING}, {"verify_key": VERIFYING}),
    "both": (
        {"encryption_key": KEY, "signing_key": SIGNING},
        {"encryption_key": KEY, "verify_key": VERIFYING},
    ),
}
PLACES = ["saved", "saved.zip"]


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "_LOG2_N", 4)


def on_features(made: Callable[..., Repurposer]) -> tuple[Repurposer, Any, Any]:
    return made(identity_network(), ["0"], random_state=0).repurpose(blob_features()), identity_network, blob_features()


def fine_tuned() -> tuple[Repurposer, Any, Any]:
    X, y = blobs()
    repurposer = NeuralNetworkFineTuneRepurposer(small_network(), "2", num_epochs=1, random_state=0, device="cpu")
    return repurposer.repurpose(X, y), small_network, X


KINDS = {"lr": lambda: on_features(LrRepurposer), "neighbours": lambda: on_features(KnnRepurposer), "tuned": fine_tuned}


@pytest.fixture(scope="module")
def trained() -> dict[str, tuple[Repurposer, Any, Any]]:
    return {name: made() for name, made in KINDS.items()}


@pytest.fixture
def saved_to(tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """What saves a repurposer to a place in one of the ways: where that is, and what it returned."""
    repurposer = lr(c=1.0).repurpose(blob_features())

    def save(place: str, **given: Any) -> tuple[Path, str]:
        return tmp_path / place, repurposer.save_repurposer(tmp_path / place, **given)

    return save


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS)
def test_predictions_are_the_same_to_the_bit(
    trained: dict[str, tuple[Repurposer, Any, Any]], tmp_path: Path, place: str, way: str
) -> None:
    saving, loading = WAYS[way]
    for kind, (repurposer, network, rows) in trained.items():
        digest = repurposer.save_repurposer(tmp_path / kind / place, **saving)
        loaded = load(tmp_path / kind / place, network(), expected_hash=digest, **loading)
        assert loaded.predict_probability(rows).tobytes() == repurposer.predict_probability(rows).tobytes()
        for name, value in vars(repurposer.target_model_).items() if kind == "lr" else ():
            assert np.array_equal(vars(loaded.target_model_)[name], value)
        if isinstance(loaded.target_model_, torch.nn.Module):
            for name, tensor in repurposer.target_model_.state_dict().items():
                assert torch.equal(loaded.target_model_.state_dict()[name], tensor)


def test_a_directory_and_a_file_have_the_same_manifest_and_files(saved_to: Callable[..., tuple[Path, str]]) -> None:
    (folder, digest), (file, of_file) = saved_to("saved"), saved_to("saved.zip")
    assert digest == of_file == sha256((folder / "manifest.json").read_bytes()).hexdigest()
    with zipfile.ZipFile(file) as opened:
        assert {*opened.namelist(), ".lock"} == {path.name for path in folder.iterdir()}
        for name in opened.namelist():
            if name != "README.md":  # which has the time
                assert opened.read(name) == (folder / name).read_bytes()


def test_a_file_that_another_program_unpacked_is_a_directory(saved_to: Callable[..., tuple[Path, str]]) -> None:
    path, digest = saved_to("saved.zip", signing_key=SIGNING)
    with zipfile.ZipFile(path) as opened:
        opened.extractall(path.with_name("unpacked"))
    load(path.with_name("unpacked"), identity_network(), expected_hash=digest, verify_key=VERIFYING)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_demanded_and_not_so_is_refused(saved_to: Callable[..., tuple[Path, str]], place: str) -> None:
    path, digest = saved_to(place)
    with pytest.raises(CorruptFileError, match=rf"{place}.* has the hash {digest[:12]}\.\.\., where 0{{12}}\.\.\. was"):
        load(path, identity_network(), expected_hash="0" * 64)
    with pytest.raises(ValueError, match="expected_hash must be the 64"):
        load(path, identity_network(), expected_hash=digest[:12])
    with pytest.raises(UnsafeFileError, match=f"{place}.* is not encrypted"):
        load(path, identity_network(), encryption_key=KEY)
    with pytest.raises(UnsafeFileError, match=f"{place}.* is not signed"):
        load(path, identity_network(), verify_key=VERIFYING)
    path, _ = saved_to(place, encryption_key=KEY, signing_key=SIGNING)
    for given, said in (
        ({}, "is encrypted with the key"),
        ({"encryption_key": bytes(32)}, "and not with the given one"),
        ({"encryption_key": "a text"}, "encryption_key is a passphrase"),
        ({"encryption_key": KEY, "verify_key": bytes(range(32))}, "is signed for the verify_key"),
    ):
        with pytest.raises(UnsafeFileError, match=f"{place}.* {said}"):
            load(path, identity_network(), **given)


@pytest.mark.parametrize("demand", [{"expected_hash": "0" * 64}, {"encryption_key": KEY}, {"verify_key": VERIFYING}])
def test_an_older_format_fits_no_demand(demand: dict[str, Any]) -> None:
    folder = Path(__file__).parents[2] / "saved" / "0.1" / "neighbours" / "saved"
    with pytest.raises(UnsafeFileError, match="saved by an earlier version, without a hash, encryption or signature"):
        load(folder, **demand)


@pytest.mark.parametrize("place", PLACES)
def test_nothing_of_an_encrypted_model_can_be_read(tmp_path: Path, place: str) -> None:
    features = blob_features()
    names = np.array(["zebra", "yak", "xerus"])[features.labels]
    repurposer = KnnRepurposer(identity_network(), ["0"]).repurpose(features.matrix, names)
    repurposer.save_repurposer(tmp_path / place)
    repurposer.save_repurposer(tmp_path / place, encryption_key=KEY)  # what was there unencrypted goes
    files = [path for path in (tmp_path, *tmp_path.rglob("*")) if path.is_file() and path.name != ".lock"]
    assert len(files) == (1 if place.endswith("zip") else 4)
    for path in files:
        data = path.read_bytes()
        assert data.startswith(b"repurpose-seal-1")
        for word in (b"zebra", b"Knn", b"sklearn", b"content", b"Date", repurposer.training_features_[0].tobytes()):
            assert word not in data
        name = "archive.zip" if place.endswith("zip") else path.name
        assert by_the_documented_layout(data, name, KEY, 2**20)
    repurposer.save_repurposer(tmp_path / place)
    assert load(tmp_path / place, identity_network()).classes_.tolist() == ["xerus", "yak", "zebra"]


def test_files_of_two_encrypted_models_do_not_mix(tmp_path: Path) -> None:
    for name in ("a", "b"):
        lr(c=1.0).repurpose(blob_features()).save_repurposer(tmp_path / name, encryption_key=KEY)
    (of_a,), (of_b,) = ([*(tmp_path / name).glob("arrays*")] for name in ("a", "b"))
    assert of_a.name != of_b.name
    of_a.write_bytes(of_b.read_bytes())
    with pytest.raises(CorruptFileError, match=r"arrays-\w+\.safetensors is damaged"):
        load(tmp_path / "a", identity_network(), encryption_key=KEY)


def test_an_encrypted_generation_before_the_present_one_stays_for_its_readers(tmp_path: Path) -> None:
    for _ in range(3):
        lr(c=1.0).repurpose(blob_features()).save_repurposer(tmp_path / "a", encryption_key="open sesame")
    assert len([*(tmp_path / "a").glob("arrays*")]) == 2


def test_a_file_is_replaced_where_it_is_a_saved_repurposer(saved_to: Callable[..., tuple[Path, str]]) -> None:
    path, _ = saved_to("saved.zip")
    for given in ({}, {"encryption_key": KEY}, {}):
        saved_to("saved.zip", **given)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"saved\.zip holds a saved repurposer already; give overwrite=True"):
        saved_to("saved.zip", overwrite=False)
    assert path.read_bytes() == before
    for foreign in (b"", b"a text", b"PK\5\6" + bytes(18)):
        path.write_bytes(foreign)
        with pytest.raises(FileExistsError, match=r"saved\.zip is a link, or no saved repurposer"):
            saved_to("saved.zip")
        assert path.read_bytes() == foreign
    path.unlink()
    path.symlink_to(path.with_name("elsewhere.zip"))
    with pytest.raises(FileExistsError, match=r"saved\.zip is a link"):
        saved_to("saved.zip")
    assert os.listdir(path.parent) == ["saved.zip"]


def test_a_directory_of_such_a_name_stays_one(tmp_path: Path, saved_to: Callable[..., tuple[Path, str]]) -> None:
    (tmp_path / "saved.zip").mkdir()
    path, digest = saved_to("saved.zip")
    assert (path / "manifest.json").is_file()
    load(path, identity_network(), expected_hash=digest)


def test_a_file_may_be_renamed(saved_to: Callable[..., tuple[Path, str]]) -> None:
    path, digest = saved_to("saved.zip", encryption_key=KEY)
    path.rename(path.with_name("model"))
    load(path.with_name("model"), identity_network(), expected_hash=digest, encryption_key=KEY)
    with pytest.raises(FileNotFoundError, match=r"no saved repurposer at .*saved\.zip: there is no such file"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04.", b"PK\3\4" + bytes(40)])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises((CorruptFileError, UnsafeFileError), match=r"model\.pt"):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("given", [{"encryption_key": b"short"}, {"encryption_key": 1}, {"signing_key": b"short"}])
def test_with_a_key_that_is_none_nothing_is_written(tmp_path: Path, place: str, given: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(given))} must"):
        lr(c=1.0).repurpose(blob_features()).save_repurposer(tmp_path / place, **given)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("place", PLACES)
def test_the_log_tells_the_key_id_and_no_key(
    saved_to: Callable[..., tuple[Path, str]], place: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path, _ = saved_to(place, encryption_key=KEY, signing_key=SIGNING)
    key_id = next(file for file in (path, *path.glob("manifest.json")) if file.is_file()).read_bytes()[16:32].hex()
    assert f"encrypted with the key {key_id}, signed" in caplog.text
    for secret in (KEY, SIGNING):
        assert secret.hex() not in caplog.text
        assert repr(secret) not in caplog.text


def test_a_signed_directory_is_as_it_was_signed(saved_to: Callable[..., tuple[Path, str]]) -> None:
    path, _ = saved_to("saved", signing_key=SIGNING)
    load(path, identity_network())  # without the key, as any other
    whole = json.loads((path / "manifest.json").read_text())
    assert whole["signature"]["verify_key"] == VERIFYING.hex()
    next(path.glob("arrays*")).write_bytes(b"x")
    with pytest.raises(CorruptFileError, match="is damaged"):
        load(path, identity_network(), verify_key=VERIFYING)
