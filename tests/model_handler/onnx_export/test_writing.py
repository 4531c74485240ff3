"""Files of ONNX: what they hold, that they are whole or not there, and what is said of what cannot be exported."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.files import whole_files
from model_handler.onnx_export import writing
from model_handler.onnx_export.writing import add_metadata, onnx_model, save_onnx, write_onnx

onnxruntime = pytest.importorskip("onnxruntime")


class Small(nn.Module):
    """Two inputs, the second of any length, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 300))

    def forward(self, rows: Tensor, more: Tensor) -> tuple[Tensor, Tensor]:
        made = rows @ self.weight + more.sum(dim=1, keepdim=True)
        return made, made.argmax(dim=1)


class OneWayByTheData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class CountsRows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1)


@pytest.fixture(scope="module")
def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="module")
def model(small: Small) -> Any:
    examples = {"rows": torch.rand(3, 4), "more": torch.rand(3, 7)}
    axes = {"rows": {0: "rows"}, "more": {0: "rows", 1: "numbers"}}
    made = onnx_model(small, examples, output_names=["sums", "largest"], axes=axes)
    add_metadata(made, {"classes": '["a"]'})
    return made


@pytest.fixture
def copied(model: Any) -> Any:
    again = type(model)()
    again.CopyFrom(model)
    return again


def answers(path: Path, n_rows: int, n_numbers: int, small: Small) -> None:
    """Compare a file with the module."""
    rows, more = torch.rand(n_rows, 4), torch.rand(n_rows, n_numbers)
    found = onnxruntime.InferenceSession(str(path)).run(None, {"rows": rows.numpy(), "more": more.numpy()})
    with torch.no_grad():
        sums, largest = small(rows, more)
    np.testing.assert_allclose(found[0], sums.numpy(), atol=1e-5)
    assert found[1].tolist() == largest.tolist()


def test_a_file_answers_any_number_of_rows(copied: Any, small: Small, tmp_path: Path) -> None:
    assert save_onnx(copied, tmp_path / "small.onnx") == [tmp_path / "small.onnx"]
    for sizes in ((1, 1), (2, 9), (5, 7)):
        answers(tmp_path / "small.onnx", *sizes, small)
    session = onnxruntime.InferenceSession(str(tmp_path / "small.onnx"))
    assert [(part.name, part.shape) for part in session.get_inputs()] == [
        ("rows", ["rows", 4]),
        ("more", ["rows", "numbers"]),
    ]
    assert session.get_modelmeta().custom_metadata_map == {"classes": '["a"]'}


def test_a_file_names_no_directory_of_this_machine(copied: Any) -> None:
    written = copied.SerializeToString()
    assert b"site-packages" not in written
    assert b"test_writing" not in written
    assert copied.opset_import[0].version >= 18
    assert not copied.functions


def test_many_weights_stand_beside_and_old_ones_go(copied: Any, model: Any, small: Small, tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    (tmp_path / "small.onnx.0123456789ab.data").write_bytes(b"of the file that was there")
    (tmp_path / "small.onnx.mine.data").write_bytes(b"of somebody else")
    first, beside = save_onnx(copied, target, inline_bytes=1000)
    assert first == target
    assert {path.name for path in tmp_path.iterdir()} == {target.name, beside.name, "small.onnx.mine.data"}
    assert target.stat().st_size < 4 * 300 * 4 <= beside.stat().st_size
    answers(target, 3, 2, small)
    save_onnx(model, target)
    assert {path.name for path in tmp_path.iterdir()} == {target.name, "small.onnx.mine.data"}


@pytest.mark.parametrize("inline_bytes", [2**20, 100])
@pytest.mark.parametrize("was_there", [False, True])
def test_a_full_disk_leaves_what_was_there(
    copied: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline_bytes: int, was_there: bool
) -> None:
    target, n_writes = tmp_path / "small.onnx", []
    if was_there:
        target.write_bytes(b"before")

    def full(file: Any, views: Any, sizes: Any) -> None:
        n_writes.append(file)
        if len(n_writes) == (1 if inline_bytes > 1000 else 2):  # the last of the files
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, views, sizes)

    real = whole_files._write
    monkeypatch.setattr(whole_files, "_write", full)
    with pytest.raises(OSError, match=r"small.onnx cannot be written: No space left"):
        save_onnx(copied, target, inline_bytes=inline_bytes)
    assert [path.name for path in tmp_path.iterdir()] == ([target.name] if was_there else [])
    assert not was_there or target.read_bytes() == b"before"


def test_control_flow_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^mine cannot be exported: its forward goes other ways for other numbers"):
        write_onnx(
            OneWayByTheData(), {"x": torch.rand(3, 4)}, tmp_path / "a", output_names=["y"], metadata={}, name="mine"
        )
    assert not list(tmp_path.iterdir())


def test_a_fixed_number_of_rows_is_refused() -> None:
    with pytest.raises(ModelError, match=r"CountsRows cannot be exported: its forward makes a constant"):
        onnx_model(CountsRows(), {"x": torch.rand(3, 4, 2)}, output_names=["y"])


def test_without_a_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ImportError, match=r"pip install 'repurpose-torch\[onnx\]'.*no_such_package"):
        onnx_model(CountsRows(), {"x": torch.rand(3, 4)}, output_names=["y"])
