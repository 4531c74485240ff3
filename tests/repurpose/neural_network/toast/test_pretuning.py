from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from model_handler.files.array_files import write_arrays
from repurpose import CorruptFileError, ToastPretuning
from repurpose.neural_network.toast.pretuning import opened_pretuning


def pretuning(**changed: Any) -> ToastPretuning:
    arrays = {"selection.xi": np.arange(4, dtype=np.float32), "feedback.A.0.weight": np.eye(4, dtype=np.float32)}
    parts = {"arrays": arrays, "network": "VisionTransformer", "source_fingerprint": "ab" * 32}
    return ToastPretuning(**{**parts, **changed})


def test_what_is_saved_comes_back_and_any_reader_of_safetensors_reads_it(tmp_path: Path) -> None:
    file, own = tmp_path / "generic.safetensors", pretuning()
    own.save(file)
    read = ToastPretuning.load(file)
    assert read.fingerprint == own.fingerprint
    assert (read.network, read.source_fingerprint, read.width) == ("VisionTransformer", "ab" * 32, 4)
    assert np.array_equal(load_file(file)["feedback.A.0.weight"], np.eye(4))
    assert opened_pretuning(str(file)).fingerprint == opened_pretuning(file).fingerprint == own.fingerprint  # type: ignore[union-attr]
    assert opened_pretuning(None) is None


def test_the_fingerprint_knows_every_number() -> None:
    changed = {name: array.copy() for name, array in pretuning().arrays.items()}
    changed["feedback.A.0.weight"][1, 2] = 1e-9
    assert pretuning(arrays=changed).fingerprint != pretuning().fingerprint
    renamed = {name.replace("A", "B"): array for name, array in pretuning().arrays.items()}
    assert pretuning(arrays=renamed).fingerprint != pretuning().fingerprint


def test_every_changed_byte_of_numbers_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "generic.safetensors"
    pretuning().save(file)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptFileError, match="not what was written"):
        ToastPretuning.load(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no pre-tuning of TOAST"),
        ({"kind": "features", "network": "x", "source": "y", "format": 1}, "is no pre-tuning of TOAST"),
        ({"kind": "toast pre-tuning", "network": 3, "source": "y", "format": 1}, "is no pre-tuning of TOAST"),
        ({"kind": "toast pre-tuning", "network": "x", "source": "y"}, "is of format None"),
        ({"kind": "toast pre-tuning", "network": "x", "source": "y", "format": 1}, "does not hold the numbers"),
    ],
)
def test_other_files_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    write_arrays(tmp_path / "other.safetensors", {"selection.xi": np.zeros(3)}, content)
    with pytest.raises(CorruptFileError, match=message):
        ToastPretuning.load(tmp_path / "other.safetensors")


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ToastPretuning.load(tmp_path / "none.safetensors")
