import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import load_file
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from model_handler.files.array_files import read_arrays
from repurpose import MetaModelRepurposer, load
from tests.repurpose.examples import KnnRepurposer, blob_features, identity_network, lr
from tests.repurpose.saved_files import files_of, plan_of


class Keeper(MetaModelRepurposer):
    """Learns whatever it is given."""

    def __init__(self, source_model: Any, feature_layer_names: Any, head: Any = None, **kwargs: Any) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.head = head

    def _train_model_from_features(self, *args: Any) -> Any:
        self.extra_ = self.head
        self._private = object()
        return self.head

    def _predict_label_from_features(self, features: Any) -> Any:
        return np.zeros(len(features), int)


def test_the_directory_holds_json_and_safetensors_and_nothing_to_execute(tmp_path: Path) -> None:
    lr(random_state=0).repurpose(blob_features()).save_repurposer(tmp_path / "saved")
    (arrays,) = files_of(tmp_path / "saved").values()
    assert {file.name for file in (tmp_path / "saved").iterdir()} == {
        "manifest.json",
        "README.md",
        ".lock",
        arrays.name,
    }
    assert load_file(arrays).keys() == read_arrays(arrays).arrays.keys()
    plan = plan_of(tmp_path / "saved")
    assert plan["format"] == 3
    assert plan["class"] == "repurpose.meta_model.lr_repurposer:LrRepurposer"
    assert plan["parameters"]["random_state"] == 0
    names = {"fingerprint", "layers", "loaded_as", "network", "preprocessing", "tensors", "tied"}
    assert set(plan["source"]) == names | {"channels_last"}


def test_a_scikit_learn_head_goes_to_a_skops_file(tmp_path: Path) -> None:
    repurposer = KnnRepurposer(identity_network(), ["0"]).repurpose(blob_features())
    repurposer.save_repurposer(tmp_path / "saved")
    assert files_of(tmp_path / "saved")["estimator_0.skops"].is_file()
    loaded = load(tmp_path / "saved", source_model=identity_network())
    assert np.array_equal(loaded.predict_probability(blob_features()), repurposer.predict_probability(blob_features()))


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_every_file_may_be_read_by_all_whom_the_umask_allows(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        KnnRepurposer(identity_network(), ["0"]).repurpose(blob_features()).save_repurposer(tmp_path / "new" / "saved")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*")}
    assert modes.pop("saved") == 0o777 & ~umask
    assert len(modes) == 5
    assert set(modes.values()) == {0o666 & ~umask}


def test_what_a_file_cannot_hold_is_listed_and_nothing_is_written(tmp_path: Path) -> None:
    for head, name in (
        (nn.Conv1d(1, 1, 1), r"torch\.nn\.modules\.conv\.Conv1d"),
        (
            RandomForestClassifier(2).fit([[0], [1]], [0, 1]),
            r"RandomForestClassifier with parts .*sklearn\.tree\._tree\.Tree",
        ),
        (np.zeros(2, complex), "an array of dtype complex128"),
        (torch.zeros(2).to(torch.float8_e5m2), r"a tensor of dtype torch\.float8_e5m2"),
        ([1, {"deep": object()}], r"builtins\.object"),
    ):
        repurposer = Keeper(identity_network(), ["0"], head=head).repurpose(blob_features())
        with pytest.raises(ValueError, match=name) as error:
            repurposer.save_repurposer(tmp_path / "saved")
        for attribute in ("extra_", "target_model_"):
            assert attribute in str(error.value)
        assert "defines _head_state()" in str(error.value)
        assert "names do not end in '_'" in str(error.value)
        assert list(tmp_path.iterdir()) == []


def test_values_of_many_types_come_back_as_they_were(tmp_path: Path) -> None:
    head = {
        "none": None,
        "numbers": [1, 2.5, True, float("inf"), -0.0],
        "text": ("a", "ü"),
        "by number": {1: "one", (2, 3): "pair"},
        "array": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "small": np.arange(3, dtype=np.int8),
        "texts": np.array([["a", "bc"]]),
        "objects": np.array(["a", None, 1], dtype=object),
        "scalar": np.float32(0.1),
        "tensor": torch.arange(3),
        "device": torch.device("cpu"),
    }
    Keeper(identity_network(), ["0"], head=head).repurpose(blob_features()).save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=identity_network())
    found = loaded.extra_
    assert list(found) == list(head)
    for name in ("none", "numbers", "text", "by number", "scalar", "device"):
        assert found[name] == head[name]
    for name in ("array", "small", "texts", "objects"):
        assert np.array_equal(found[name], head[name])
        assert found[name].dtype == head[name].dtype
    assert found["array"].flags.f_contiguous
    assert type(found["scalar"]) is np.float32
    assert torch.equal(found["tensor"], head["tensor"])
    assert loaded.head.keys() == head.keys()


def test_a_random_state_is_continued(tmp_path: Path) -> None:
    chance = np.random.RandomState(3)
    lr(random_state=chance).repurpose(blob_features()).save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=identity_network())
    assert loaded.random_state.randint(1000) == chance.randint(1000)


def test_saving_again_replaces_the_old_and_other_directories_are_refused(tmp_path: Path) -> None:
    repurposer = lr().repurpose(blob_features())
    repurposer.save_repurposer(tmp_path / "saved")
    repurposer.set_params(c=0.5).repurpose(blob_features()).save_repurposer(tmp_path / "saved")
    assert load(tmp_path / "saved", source_model=identity_network()).c == 0.5
    with pytest.raises(FileExistsError, match="saved holds a saved repurposer already; give overwrite=True"):
        repurposer.save_repurposer(tmp_path / "saved", overwrite=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(FileExistsError, match=r"photos holds other things \(cat\.png\)"):
        repurposer.save_repurposer(tmp_path / "photos")
    assert [file.name for file in (tmp_path / "photos").iterdir()] == ["cat.png"]


def test_a_manifest_and_readme_of_another_program_stay(tmp_path: Path) -> None:
    files = {"manifest.json": '{"name": "a web page"}', "README.md": "What it is"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(FileExistsError, match=r"holds other things \("):
            lr().repurpose(blob_features()).save_repurposer(tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == files


def test_a_directory_of_an_earlier_format_is_replaced_and_its_files_go(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[2] / "saved" / "0.1" / "neighbours" / "saved", tmp_path / "saved")
    assert (tmp_path / "saved" / "estimator_0.skops").is_file()
    lr().repurpose(blob_features()).save_repurposer(tmp_path / "saved")
    (arrays,) = files_of(tmp_path / "saved").values()
    assert {file.name for file in (tmp_path / "saved").iterdir()} == {
        "manifest.json",
        "README.md",
        ".lock",
        arrays.name,
    }


def test_what_a_first_saving_that_was_killed_left_is_taken_over(tmp_path: Path) -> None:
    lr().repurpose(blob_features()).save_repurposer(tmp_path / "saved")
    for name in ("manifest.json", "README.md"):
        (tmp_path / "saved" / name).unlink()
    (tmp_path / "saved" / ".manifest.json.writing-0123456789ab").touch()
    lr().repurpose(blob_features()).save_repurposer(tmp_path / "saved")
    assert len(list((tmp_path / "saved").iterdir())) == 4


def test_another_program_can_read_it_by_what_docs_format_says(tmp_path: Path) -> None:
    repurposer = lr(c=1.0).repurpose(blob_features())
    repurposer.save_repurposer(tmp_path / "saved")
    text = (tmp_path / "saved" / "manifest.json").read_text("ascii")
    manifest = json.loads(text)
    unsigned = json.dumps({"content": manifest["content"], "files": manifest["files"]}, separators=(",", ":"))
    assert hashlib.sha256(unsigned.encode()).hexdigest() == manifest["sha256"]
    entry = manifest["files"]["arrays.safetensors"]
    data = (tmp_path / "saved" / entry["file"]).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["size"], entry["sha256"])
    assert entry["file"] == f"arrays-{entry['sha256'][:32]}.safetensors"
    classes = manifest["content"]["fitted"]["classes_"]
    assert (classes["type"], classes["order"]) == ("array", "C")
    assert np.array_equal(load_safetensors(data)[classes["key"]], repurposer.classes_)


def test_what_could_not_be_loaded_is_not_written(tmp_path: Path) -> None:
    made = lr(random_state=0).repurpose(blob_features())
    made.target_model_.coef_[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"this LrRepurposer cannot be saved: its target_model_\.coef_ .*finite"):
        made.save_repurposer(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_saving_replaces_links_and_leaves_alone_where_they_lead(tmp_path: Path) -> None:
    repurposer = lr(c=1.0, random_state=0).repurpose(blob_features())
    repurposer.save_repurposer(tmp_path / "saved")
    (arrays,) = files_of(tmp_path / "saved").values()
    for name in ("manifest.json", "README.md", arrays.name):
        (tmp_path / name).write_text("mine")
        (tmp_path / name).chmod(0o600)
        (tmp_path / "saved" / name).unlink()
        (tmp_path / "saved" / name).symlink_to(tmp_path / name)
        repurposer.save_repurposer(tmp_path / "saved")
        assert (tmp_path / name).read_text() == "mine"
        assert not (tmp_path / "saved" / name).is_symlink()
    load(tmp_path / "saved", source_model=identity_network())
