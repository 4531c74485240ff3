"""`repurpose export` on tiny folders, with a network that takes no time."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from repurpose import load
from tests.repurpose.cli.commands import run, write_images

onnxruntime = pytest.importorskip("onnxruntime")


def test_a_saved_model_becomes_a_file_that_answers_alike(saved: Path, photos: Path, tmp_path: Path) -> None:
    target, pool = tmp_path / "model.onnx", write_images(tmp_path / "new", n_per_class=3, seed=5)
    result = run("export", saved, "--onnx", target, "--coverage", 0.8, "--check", photos, "--rows", 10, "--json")
    assert result.code == 0, result.text
    report = json.loads(result.stdout)
    assert report["n_rows"] == 10
    assert report["files"] == ["model.onnx"]
    assert report["n_bytes"] == target.stat().st_size
    files = sorted(pool.rglob("*.png"))
    images = np.stack([np.array(transforms.Resize(8)(Image.open(file))) for file in files])
    names = ["probabilities", "in_set", "p_value"]
    probabilities, in_set, p_value = onnxruntime.InferenceSession(str(target)).run(names, {"images": images})
    repurposer = load(saved)  # which judges by the heads and detectors of its folds
    np.testing.assert_allclose(probabilities, repurposer.predict_probability(files), atol=1e-5)
    assert np.array_equal(in_set, repurposer.predict_set(files, 0.8).members)
    np.testing.assert_allclose(p_value, repurposer.unfamiliarity_p_value(files), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "give --check FOLDER"),
        (("--check", "no-such-folder"), 1, "there is no file or folder"),
        (("--check", "PHOTOS", "--coverage", 90), 2, "--coverage must be above 0 and below 1"),
        (("--check", "PHOTOS", "--coverage", 0.999), 1, "needs at least 999 rows"),
        (("--check", "PHOTOS", "--table", "rows.csv"), 2, "not both"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
    saved: Path, photos: Path, tmp_path: Path, options: tuple[object, ...], code: int, said: str
) -> None:
    given = [photos if option == "PHOTOS" else option for option in options]
    result = run("export", saved, "--onnx", tmp_path / "model.onnx", *given)
    assert (result.code, said in result.text) == (code, True), result.text
    assert not list(tmp_path.iterdir())
