"""`repurpose detect`, on a network that takes no time."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from repurpose import load
from repurpose.detection import CocoData, DetectionRepurposer, VocFolderData
from tests.repurpose.cli.commands import run
from tests.repurpose.detection.data.folders import coco_file, coco_object, voc_object, voc_xml

TINY = ("--source", "tiny/maps", "--channels", 64, "--epochs", 1)


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six dark images of 72 x 64 pixels with one bright square each, four to learn from and two others."""
    root, rng = tmp_path_factory.mktemp("in") / "VOC", np.random.default_rng(0)
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        pixels = rng.integers(0, 60, (64, 72, 3), dtype=np.uint8)
        x, y = rng.integers(0, 32, 2).tolist()
        pixels[y : y + 32, x : x + 32] = 250
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{number}.png")
        xml = voc_xml(voc_object("square", (x + 1, y + 1, x + 32, y + 32)), size=(72, 64))
        (root / "Annotations" / f"{number}.xml").write_text(xml)
    for split, names in {"train": "0\n1\n2\n3", "val": "4\n5", "square_train": "0 1"}.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text(names)
    return root


@pytest.fixture(scope="module")
def detector(voc: Path) -> Path:
    """What `train` saved."""
    out = voc.parent / "detector"
    result = run("detect", "train", voc, "--split", "train", *TINY, "--validation-split", "val", "--out", out)
    assert result.code == 0, result.text
    assert "4 objects of 1 classes in 4 images: square (4)" in result.text
    assert (
        "maps of stage1 (stride 8), stage2 (stride 16), stage3 (stride 32); images of at most 128 pixels" in result.text
    )
    assert re.search(r"2 images that were not learned from: AP50 \d\.\d{3} \(.* to .*\), AP \d", result.text)
    assert f"saved to {out}; next: repurpose detect predict {out} IMAGES --out DRAWN" in result.text
    return out


def test_options_are_those_of_the_library(detector: Path) -> None:
    repurposer = load(detector)
    wanted = {"detector": "fcos", "layers": "auto", "image_size": "auto", "channels": 64, "random_state": 0}
    assert {name: repurposer.get_params()[name] for name in wanted} == wanted
    assert np.isfinite(repurposer.history_.values("validation_loss")).all()


def test_without_channels_the_source_says_how_many(voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(repurposer: DetectionRepurposer, *_: object, **__: object) -> None:
        raise ValueError(f"channels={repurposer.channels!r}")

    monkeypatch.setattr(DetectionRepurposer, "repurpose", told)
    command = ("detect", "train", voc, "--split", "train", "--source", "tiny/maps", "--out", tmp_path / "out")
    assert "channels='auto'" in run(*command).text
    assert "channels=96" in run(*command, "--channels", 96).text


def test_a_coco_file_is_learned_from_with_a_part_held_out(tmp_path: Path) -> None:
    objects = [coco_object(image, category=3, id=image) for image in range(1, 5)]
    file = coco_file(tmp_path, [*objects, coco_object(4, category=8, id=9)], n_images=4)
    options = ("--images", tmp_path / "photos", "--holdout", 0.25, "--detector", "retinanet", "--layer", "stage2")
    result = run("detect", "train", file, *options, *TINY, "--augment", "--out", tmp_path / "saved.zip")
    assert result.code == 0, result.text
    assert "1 images that were not learned from" in result.text
    assert "maps of stage2 (stride 16); images" in result.text
    assert f"saved to {tmp_path / 'saved.zip'}; next" in result.text
    # image 4 has the only dog, and so is never the one held out
    assert "4 objects of 2 classes in 3 images: cat (3), dog (1)" in result.text
    params = load(tmp_path / "saved.zip").get_params()
    assert [params[name] for name in ("detector", "layers", "augmentation")] == ["retinanet", ["stage2"], "auto"]
    measured = run("detect", "evaluate", tmp_path / "saved.zip", file, "--images", tmp_path / "photos")
    assert "Detection on 4 images: 5 true boxes" in measured.text


def test_what_is_found_is_drawn_and_written(detector: Path, voc: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for number, name in enumerate(("a.jpg", "b.bmp", "c.png")):
        photos.mkdir(exist_ok=True)
        Image.open(voc / "JPEGImages" / f"{number}.png").save(photos / name)
    options = ("--out", tmp_path / "new" / "drawn", "--json", tmp_path / "found.json", "--min-score", 0.05)
    result = run("detect", "predict", detector, photos, *options)
    assert result.code == 0, result.text
    expected = load(detector).predict_objects(photos)
    given = json.loads((tmp_path / "found.json").read_text())
    assert [each["image"] for each in given] == [str(photos / name) for name in ("a.jpg", "b.bmp", "c.png")]
    for each, found in zip(given, expected, strict=True):
        assert [one["label"] for one in each["objects"]] == found.labels.tolist()
        np.testing.assert_allclose([one["box"] for one in each["objects"]], found.boxes)
        np.testing.assert_allclose([one["score"] for one in each["objects"]], found.scores)
    drawn = sorted(path.name for path in (tmp_path / "new" / "drawn").iterdir())
    assert drawn == ["a.jpg", "b.bmp.png", "c.png"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["drawn"]
    with Image.open(tmp_path / "new" / "drawn" / "c.png") as image:
        assert image.size == (72, 64)
        assert not np.array_equal(np.asarray(image), np.asarray(Image.open(photos / "c.png")))
    n_objects = sum(len(found) for found in expected)
    assert f"{n_objects} objects of score 0.05 or more in 3 images, none in 0" in result.text


def test_standard_output_holds_the_json_and_nothing_else(detector: Path, voc: Path) -> None:
    files = [voc / "JPEGImages" / "1.png", voc / "JPEGImages" / "0.png"]
    found = run("detect", "predict", detector, *files, "--json", "-", "--min-score", 0.99)
    assert json.loads(found.stdout) == [{"image": str(file), "objects": []} for file in files]
    assert "0 objects of score 0.99 or more in 2 images, none in 2" in found.stderr
    measured = run("detect", "evaluate", detector, voc, "--split", "val", "--json", "-")
    given = json.loads(measured.stdout)
    expected = load(detector).evaluate(VocFolderData(voc, "val"))
    assert given["ap50"]["value"] == expected.ap50
    assert given["ap50"]["interval"] == list(expected.intervals["ap50"])
    assert given["per_class"][0] | {"label": "square", "n_true": 2, "in_training": True} == given["per_class"][0]
    assert "Detection on 2 images: 2 true boxes" in measured.stderr


def test_without_an_output_a_table_is_shown(detector: Path, voc: Path) -> None:
    result = run("detect", "predict", detector, voc / "JPEGImages" / "1.png", "--min-score", 0.05)
    assert result.code == 0
    assert re.search(r"1\.png │ \d+ square │ square 0\.\d\d at \d+ \d+ \d+ \d+", result.text)


def test_a_class_never_seen_in_training_is_told_and_counts_as_missed(detector: Path, tmp_path: Path) -> None:
    file = coco_file(tmp_path, [coco_object(1, category=8)], n_images=1)
    result = run("detect", "evaluate", detector, file, "--images", tmp_path / "photos", "--json", tmp_path / "m.json")
    assert result.code == 0, result.text
    assert (
        "Warning: the data have objects of classes that the detector was not trained on: 'dog' (1 box)" in result.text
    )
    given = json.loads((tmp_path / "m.json").read_text())
    assert [(row["label"], row["ap50"], row["in_training"]) for row in given["per_class"]] == [
        ("square", None, True),
        ("dog", 0.0, False),
    ]


def test_detectors_and_classifiers_are_told_apart_with_the_right_command(
    detector: Path, saved: Path, voc: Path, photos: Path
) -> None:
    wrong = run("predict", detector, photos)
    assert wrong.code == 1
    assert f"{detector} holds a DetectionRepurposer, which finds objects in images" in wrong.text
    assert f"`repurpose detect predict {detector} IMAGES`" in wrong.text
    for command in (("predict", saved, photos), ("evaluate", saved, voc, "--split", "val")):
        wrong = run("detect", *command)
        assert wrong.code == 1
        assert f"{saved} holds a LrRepurposer, which says what a whole image shows" in wrong.text
        assert f"`repurpose predict {saved} IMAGES`" in wrong.text


def test_an_unreadable_image_ends_the_work_or_stays_out(detector: Path, voc: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "broken.png").write_bytes(b"no image")
    Image.open(voc / "JPEGImages" / "0.png").save(photos / "good.png")
    refused = run("detect", "predict", detector, photos, "--out", tmp_path / "drawn")
    assert (refused.code, "broken.png cannot be read as an image" in refused.text) == (1, True), refused.text
    assert refused.text.strip().endswith("; leave it out: --on-error skip")
    assert not (tmp_path / "drawn").exists()
    skipped = run("detect", "predict", detector, photos, "--out", tmp_path / "drawn", "--on-error", "skip")
    assert (skipped.code, "1 of 2 images were skipped" in skipped.text) == (0, True)
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["good.png"]


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_handler.ModelHandler.__init__", None)


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "@VOC"], 2, "@VOC is a VOC folder: give the --split, one of train, val"),
        (
            ["train", "@VOC", "--split", "trian"],
            1,
            "there is no split 'trian' in @VOC/ImageSets/Main; nearest: ['train'",
        ),
        (["train", "@VOC", "--split", "square_train"], 1, "square_train.txt is a list of VOC's for one class"),
        (["train", "@VOC", "--split", "train", "--images", "@VOC"], 2, "--images is for a COCO file"),
        (["train", "@VOC/..", "--split", "train"], 1, "so it is no VOC folder; give @VOC"),
        (["train", "@NOWHERE", "--split", "train"], 1, "there is no file or folder '@NOWHERE'"),
        (["train", "@JSON"], 2, "@JSON is a file: give the folder of its images, --images FOLDER"),
        (["train", "@JSON", "--split", "train"], 2, "--split is for a VOC folder; @JSON is a file"),
        (["train", "@JSON", "--images", "@VOC"], 1, "@JSON is no COCO file"),
        (["train", "@VOC", "--split", "train", "--holdout", "1"], 2, "--holdout must be a part between 0 and 1"),
        (["train", "@VOC", "--split", "train", "--holdout", "0.1"], 1, "--holdout 0.1 of 4 images leaves none"),
        (
            ["train", "@VOC", "--split", "train", "--holdout", "0.5", "--validation-split", "val"],
            2,
            "each epoch is judged by --holdout or by other images",
        ),
        (["train", "@VOC", "--split", "train", "--validation", "@JSON"], 2, "--validation-images FOLDER"),
        (
            ["train", "@VOC", "--split", "train", "--validation-images", "@VOC"],
            2,
            "--validation-images goes with --validation FILE.json",
        ),
        (["train", "@VOC", "--split", "train", "--channels", "100"], 2, "--channels must be a multiple of 32 from 64"),
        (["train", "@VOC", "--split", "train", "--channels", "2048"], 2, "--channels must be a multiple of 32 from 64"),
        (["train", "@VOC", "--split", "train", "--source", "tiny2/maps"], 2, "there is no source named 'tiny2/maps'"),
        (["train", "@VOC", "--split", "train", "--detector", "yolo"], 2, "'fcos', 'retinanet', 'faster_rcnn'"),
        (["predict", "@SAVED", "@VOC/JPEGImages", "--out", "@VOC"], 1, "@VOC holds other things"),
        (["predict", "@SAVED", "@VOC/JPEGImages", "--out", "@VOC/JPEGImages/drawn"], 1, "lies inside @VOC/JPEGImages"),
        (["predict", "@SAVED", "@VOC/JPEGImages", "--json", "@VOC"], 1, "@VOC is a directory; give the path of a file"),
        (["predict", "@SAVED", "@NOWHERE"], 1, "there is no file or folder '@NOWHERE'"),
        (["predict", "@NOWHERE", "@VOC/JPEGImages"], 1, "@NOWHERE"),
        (["evaluate", "@SAVED", "@VOC"], 2, "@VOC is a VOC folder: give the --split, one of train, val"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_network_runs(
    detector: Path, voc: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "objects.json").write_text("{}")
    places = {
        "@SAVED": str(detector),
        "@VOC": str(voc),
        "@JSON": str(tmp_path / "objects.json"),
        "@NOWHERE": "/nowhere",
    }
    out = ["--out", str(tmp_path / "out"), "--source", "tiny/maps"] if arguments[0] == "train" else []

    def placed(text: str) -> str:
        for name, place in places.items():
            text = text.replace(name, place)
        return text

    command, *options = arguments
    result = run("detect", command, *out, *map(placed, options))  # of an option given twice the last one counts
    assert (result.code, placed(message) in re.sub(r" │ │ ", " ", result.text)) == (code, True), result.text
    assert not (tmp_path / "out").exists()
    assert not re.search(r"Traceback|VocFolderData|on_error|random_state", result.text)


def test_bad_boxes_and_classes_that_cannot_be_learned_are_told_before_training(voc: Path, tmp_path: Path) -> None:
    def train(*objects: dict[str, Any], options: tuple[object, ...] = ()) -> Any:
        file = coco_file(tmp_path, objects, n_images=2)
        command = ("detect", "train", file, "--images", tmp_path / "photos", *TINY, "--out", tmp_path / "out")
        return run(*command, *options)

    outside = coco_object(bbox=(2, 4, 50, 6))
    refused = train(outside)
    assert (refused.code, "box 0, [2.0, 4.0, 52.0, 10.0], lies outside" in refused.text) == (1, True), refused.text
    assert refused.text.strip().endswith("mend the file, or leave such boxes out: --on-error skip")
    refused = train(coco_object(), options=("--validation", voc, "--validation-split", "val"))
    assert "has objects of classes that" in refused.text
    assert "has not: square; nearest there: cat" in refused.text
    refused = train()
    assert "none of the 2 images of" in refused.text
    assert not (tmp_path / "out").exists()
    assert train(outside, coco_object(id=8), options=("--on-error", "skip")).code == 0
    with pytest.warns(UserWarning, match=r"box 0, .* lies outside; left out"):
        assert CocoData(tmp_path / "objects.json", tmp_path / "photos", on_error="skip").classes == ["cat"]


def test_an_interruption_is_told_with_what_became_of_the_output(
    detector: Path, voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("repurpose.detection.DetectionRepurposer.repurpose", interrupted)
    monkeypatch.setattr("repurpose.detection.draw", interrupted)
    train = ("train", voc, "--split", "train", *TINY)
    predict = ("predict", detector, voc / "JPEGImages" / "0.png")
    for command in (train, predict):
        result = run("detect", *command, "--out", tmp_path / "out")
        assert (result.code, "Interrupted: nothing was saved" in result.text) == (130, True), result.text
        assert not [*tmp_path.iterdir()]
