"""`repurpose offsite`: four commands by which two people share files and nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest

from repurpose import load, signing_key_pair
from repurpose.offsite import OffsitePackage, PluggedInRepurposer
from repurpose.offsite.adapter_files import read_adapter
from tests.repurpose.cli.commands import run

TINY = ("--source", "tiny/blocks")
SHORT = ("--adapter", 1, 1, "--emulator", 2)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    folder = tmp_path_factory.mktemp("owner")
    (folder / "names.txt").write_text("green\nred\nblue\n")
    options = ("--class-names", folder / "names.txt", "--distill", photos, "--min-steps", 2)
    result = run("offsite", "export", "--out", folder / "package.zip", *TINY, *SHORT, *options)
    assert result.code == 0, result.text
    assert "1 + 1 blocks are the adapter, 2 of the 4 between them the emulator" in result.text
    assert f"repurpose offsite tune {folder / 'package.zip'} FOLDER --out ADAPTER.zip" in result.text
    (found,) = re.findall("id ([0-9a-f]{64})", result.text)
    assert found == OffsitePackage(folder / "package.zip").id
    return folder / "package.zip"


def test_what_was_tuned_elsewhere_is_plugged_in_and_predicts(package: Path, photos: Path, tmp_path: Path) -> None:
    tuned = run("offsite", "tune", package, photos, "--out", tmp_path / "adapter", "--epochs", 2, "--holdout", 0.25)
    assert tuned.code == 0, tuned.text
    assert re.search(r"24 images of 3 classes: blue, green, red trained for 2 epochs, held-out accuracy \d", tuned.text)
    assert "the adapter has the names of the classes with it; --hide-class-names keeps them here" in tuned.text
    (adapter_hash,) = re.findall("hash ([0-9a-f]{64})", tuned.text)
    plug_in = ("offsite", "plug-in", tmp_path / "adapter", "--package", package, *TINY, "--out", tmp_path / "saved")
    refused = run(*plug_in, "--expected-hash", "0" * 64)
    assert (refused.code, f"has the hash {adapter_hash[:12]}..." in refused.text) == (1, True), refused.text
    plugged = run(*plug_in, "--expected-hash", adapter_hash)
    assert plugged.code == 0, plugged.text
    assert f"next: repurpose predict {tmp_path / 'saved'} FOLDER" in plugged.text
    assert type(load(tmp_path / "saved")) is PluggedInRepurposer
    predicted = run("predict", tmp_path / "saved", photos)
    assert (predicted.code, "by the names of the sub-folders" in predicted.text) == (0, True)


def test_an_audit_says_what_is_in_a_package_and_of_whom(package: Path, photos: Path) -> None:
    plain = run("offsite", "audit", package, "--data", photos)
    assert re.search(
        r"[\d,]+ parameters are in the package; .* accuracy with the emulator as it is: 0\.\d+", plain.text
    )
    assert run("offsite", "audit", package, "--expected-hash", "0" * 64).code == 1
    compared = run("offsite", "audit", package, *TINY, "--expected-hash", OffsitePackage(package).id)
    assert re.search(r"encoder_layer_4 encoder\.layers\.encoder_layer_4 (1\.0|0\.9)\d+ 0\.\d+", compared.text)


def test_weights_alone_are_tuned_by_who_has_the_code(photos: Path, tmp_path: Path) -> None:
    options = ("--architecture", "given", "--distill", photos, "--min-steps", 1)
    sent = run("offsite", "export", "--out", tmp_path / "package", *TINY, *SHORT, *options)
    assert f"tune {tmp_path / 'package'} FOLDER --source tiny/blocks --out ADAPTER.zip" in sent.text
    tune = ("offsite", "tune", tmp_path / "package", photos, "--out", tmp_path / "adapter", "--epochs", 1)
    refused = run(*tune)
    assert (refused.code, "name the network that they are of by --source" in refused.text) == (1, True), refused.text
    assert run(*tune, *TINY).code == 0


def test_names_of_classes_stay_where_they_are_to_stay(package: Path, photos: Path, tmp_path: Path) -> None:
    options = ("--out", tmp_path / "adapter.zip", "--epochs", 1, "--kind", "lora", "--rank", 2)
    result = run("offsite", "tune", package, photos, *options, "--hide-class-names")
    assert (result.code, "has the names" in result.text) == (0, False)
    assert read_adapter(tmp_path / "adapter.zip").class_names == (0, 1, 2)


def test_keys_in_files_encrypt_sign_and_verify(photos: Path, tmp_path: Path) -> None:
    keys = {"secret": b"0123456789abcdef" * 2, "short": b"1234"}
    keys["signing"], keys["verify"] = signing_key_pair()
    for name, key in keys.items():
        (tmp_path / name).write_bytes(key)
    secret = ("--encryption-key", tmp_path / "secret")
    sign, verify = ("--signing-key", tmp_path / "signing"), ("--verify-key", tmp_path / "verify")
    package, adapter = tmp_path / "package", tmp_path / "adapter"
    assert run("offsite", "export", "--out", package, *TINY, *SHORT, "--head", "none", *secret, *sign).code == 0
    tune = ("offsite", "tune", package, photos, "--out", adapter, "--epochs", 1)
    assert run(*tune, *secret, *verify, *sign).code == 0
    plug_in = ("offsite", "plug-in", adapter, "--package", package, *TINY, "--out", tmp_path / "saved")
    assert run(*plug_in, *secret, *verify).code == 0
    refused: dict[str, tuple[Any, ...]] = {
        "give it by --encryption-key FILE": (*plug_in, *verify),
        "short has 4 bytes, where a key has 32": (*plug_in, "--encryption-key", tmp_path / "short"),
        "is signed for the verify_key": (*tune, *secret, "--verify-key", tmp_path / "secret"),
    }
    for message, command in refused.items():
        result = run(*command)
        assert (result.code, message in result.text) == (1, True), result.text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["export", "--out", "OUT", "--emulator", "half"],
            2,
            "--emulator must be a number of blocks or a share such as",
        ),
        (["export", "--out", "OUT", *TINY, "--emulator", "0"], 1, "emulator"),
        (["export", "--out", "OUT", *TINY, "--adapter", "9", "9"], 1, "adapter"),
        (["export", "--out", "PACKAGE/package", *TINY], 1, "PACKAGE is not a directory"),
        (["tune", "PACKAGE", "--out", "OUT"], 2, "give a folder of images, or a --table of them"),
        (
            ["tune", "PACKAGE", "FOLDER", "--out", "OUT", "--holdout", "1"],
            2,
            "--holdout must be a part between 0 and 1",
        ),
        (
            ["tune", "PACKAGE", "FOLDER", "--out", "PACKAGE"],
            1,
            "holds something else than an adapter; give another path",
        ),
        (["tune", "FOLDER", "FOLDER", "--out", "OUT"], 1, "there is not a package at FOLDER"),
        (["plug-in", "PACKAGE", "--package", "PACKAGE", *TINY, "--out", "OUT"], 1, "is a package, and not an adapter"),
        (["audit", "NOWHERE"], 1, "there is not a package at NOWHERE: there is nothing of that name"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    package: Path, photos: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    places = {"PACKAGE": str(package), "FOLDER": str(photos), "OUT": str(tmp_path / "out")}

    def placed(text: str) -> str:
        for name, place in places.items():
            text = text.replace(name, place)
        return text

    result = run("offsite", *map(placed, arguments))
    assert (result.code, placed(message) in result.text) == (code, True), result.text
    assert result.text.startswith("Error:")
    assert not (tmp_path / "out").exists()


def test_the_commands_are_listed() -> None:
    text = run("offsite", "--help").text
    assert all(name in text for name in ("export", "audit", "tune", "plug-in"))
