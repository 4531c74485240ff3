"""A predictor adds to every kind of table what the library itself would answer, wherever it runs."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from model_handler.data.decoding import UnreadableImageError
from repurpose.deployment.predictor.predictor import Predictor
from tests.repurpose.deployment.models import X, as_file, of_images, of_numbers, of_texts, pictures
from tests.repurpose.examples import CentroidRepurposer, blobs, identity_network

NEW = blobs(20, seed=1)[0]
ADDED = ["label", "probability", "set", "p_value"]


@pytest.fixture(scope="module")
def repurposer() -> Any:
    return of_numbers()


@pytest.fixture(scope="module")
def predictor(repurposer: Any) -> Predictor:
    return repurposer.predictor()


def assert_is_answered(answered: Any, repurposer: Any, inputs: Any, coverage: float = 0.9) -> None:
    """Compare columns with what the library says of the same rows."""
    probabilities = repurposer.predict_probability(inputs)
    assert list(answered["label"]) == repurposer.predict_label(inputs).tolist()
    assert np.array_equal(answered["probability"], probabilities.max(axis=1))
    assert list(answered["set"]) == [labels.tolist() for labels in repurposer.predict_set(inputs, coverage)]
    assert np.array_equal(answered["p_value"], repurposer.unfamiliarity_p_value(inputs))


def test_a_dict_of_arrays_is_answered_in_arrays(predictor: Predictor, repurposer: Any) -> None:
    batch = {"x": NEW}
    answered = predictor(batch)
    assert (list(answered), list(batch)) == (["x", *ADDED], ["x"])
    assert all(isinstance(column, np.ndarray) and len(column) == 20 for column in answered.values())
    assert_is_answered(answered, repurposer, NEW)


def test_a_dict_of_lists_is_answered_in_lists_of_plain_values(predictor: Predictor, repurposer: Any) -> None:
    answered = predictor({"x": NEW.tolist()})
    assert {type(column) for column in answered.values()} == {list}
    assert {type(entry) for name in ADDED for entry in answered[name]} == {str, float, list}
    assert_is_answered(answered, repurposer, NEW)


def test_a_frame_keeps_its_index_and_its_other_columns(repurposer: Any) -> None:
    frame = pd.DataFrame({"id": range(20), "x": list(NEW)}, index=np.arange(20) // 2)
    answered = repurposer.predictor(input="x")(frame)
    assert answered.columns.tolist() == ["id", "x", *ADDED]
    assert answered.index.tolist() == frame.index.tolist()
    assert_is_answered(answered, repurposer, NEW)
    assert frame.columns.tolist() == ["id", "x"]


def test_an_iterator_of_frames_is_read_one_at_a_time(predictor: Predictor, repurposer: Any) -> None:
    """So Spark's `mapInPandas` calls it."""
    read = []

    def frames() -> Iterator[pd.DataFrame]:
        for start in (0, 5, 10):
            read.append(start)
            yield pd.DataFrame({"x": list(NEW[start : start + 5])})

    answered = predictor(frames())
    first = next(answered)
    assert read == [0]
    assert_is_answered(first, repurposer, NEW[:5])
    assert_is_answered(pd.concat([first, *answered]), repurposer, NEW[:15])
    assert list(predictor(iter([]))) == []


@pytest.mark.parametrize("on_error", ["raise", "null"])
def test_empty_batches_have_all_columns(repurposer: Any, on_error: str) -> None:
    predictor = repurposer.predictor(on_error=on_error, columns={"probabilities": "all"})
    added = [*ADDED, *(["error"] if on_error == "null" else []), "all"]
    of_arrays = predictor({"x": NEW[:0]})
    assert list(of_arrays) == ["x", *added]
    assert [len(of_arrays[name]) for name in added] == [0] * len(added)
    assert of_arrays["probability"].dtype == float
    assert predictor({"x": []})["set"] == []
    assert predictor(pd.DataFrame({"x": []})).columns.tolist() == ["x", *added]


def test_columns_have_the_names_that_are_wanted_and_none_is_written_over(repurposer: Any) -> None:
    predictor = repurposer.predictor(
        columns={"label": "predicted", "set": None, "probabilities": "all", "class_name": "name"}
    )
    answered = predictor({"x": NEW})
    assert list(answered) == ["x", "predicted", "probability", "p_value", "all", "name"]
    assert np.array_equal(answered["all"], repurposer.predict_probability(NEW))
    assert answered["name"].tolist() == answered["predicted"].tolist()
    assert predictor(pd.DataFrame({"x": list(NEW)}))["all"][3].shape == (3,)
    with pytest.raises(ValueError, match=r"has a column 'label' already.*columns=\{'label': 'predicted_label'\}"):
        repurposer.predictor(input="x")({"x": NEW, "label": np.zeros(20)})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": {"lable": "y"}}, "'lable' is none; the nearest are 'label'"),
        ({"columns": {"label": "set"}}, "a name of its own"),
        ({"coverage": 1.5}, "coverage must be above 0 and below 1"),
        ({"coverage": None, "columns": {"set": "set"}}, "there is no set to give: coverage is None"),
        ({"on_error": "skip"}, "on_error must be one of"),
        ({"score": "lacc"}, "nearest: .'lac'"),
        ({"method": "energie"}, "nearest: .'energy'"),
    ],
)
def test_options_that_there_are_not_are_refused_before_anything(repurposer: Any, options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        repurposer.predictor(**options)


def test_what_a_repurposer_cannot_say_is_left_out_with_a_warning_and_refused_if_asked_for() -> None:
    repurposer = CentroidRepurposer(identity_network(), ["0"]).repurpose((X, X[:, 0] > 0))
    with pytest.warns(UserWarning, match="gives no probability, set: CentroidRepurposer has no probabilities"):
        predictor = repurposer.predictor()
    assert list(predictor.columns) == ["label", "p_value"]
    assert predictor({"x": NEW})["label"].tolist() == repurposer.predict_label(NEW).tolist()
    with pytest.raises(ValueError, match="there is no set to give: CentroidRepurposer has no probabilities"):
        repurposer.predictor(columns={"set": "set"})


def test_other_columns_than_expected_are_told_with_the_nearest(repurposer: Any) -> None:
    with pytest.raises(ValueError, match=r"no column 'pixel'; the nearest are 'pixels': predictor\(input=...\)"):
        repurposer.predictor(input="pixel")({"pixels": NEW, "id": range(20)})
    with pytest.raises(ValueError, match="columns 'a', 'b', and one of them is the input"):
        repurposer.predictor()({"a": NEW, "b": NEW})
    with pytest.raises(TypeError, match=r"got list; rows alone are predicted by predict_label"):
        repurposer.predictor()([1, 2])
    with pytest.raises(ValueError, match="names no column"):
        repurposer.predictor(input=[])({"x": NEW})
    for on_error in ("raise", "null"):
        with pytest.raises(ValueError, match=r"differ in length: \[1, 2\] rows"):
            repurposer.predictor(input=["a", "b"], on_error=on_error)({"a": [1.0, 2.0], "b": [1.0]})
    with pytest.raises(ValueError, match="has the columns none"):
        repurposer.predictor()({})


def test_columns_of_numbers_are_those_of_training_or_those_named() -> None:
    frame = pd.DataFrame(X, columns=list("abcd"))
    repurposer = of_numbers().repurpose((frame, X[:, 0] > 0))
    mixed = frame.assign(id="u")[["id", "d", "b", "a", "c"]]
    assert_is_answered(repurposer.predictor()(mixed), repurposer, frame)
    with pytest.raises(ValueError, match="no column 'a', which training had"):
        repurposer.predictor()(mixed.rename(columns={"a": "A"}))
    plain = of_numbers()
    assert_is_answered(plain.predictor(input=list("abcd"))(mixed), plain, X)


def test_images_come_as_pixels_files_bytes_and_pil_images(tmp_path: Path) -> None:
    repurposer = of_images()
    images, _ = pictures(6, seed=1)
    files = [as_file(image) for image in images]
    paths = [str(tmp_path / f"{number}.png") for number in range(6)]
    for path, contents in zip(paths, files):
        Path(path).write_bytes(contents)
    predictor = repurposer.predictor(coverage=0.8)
    undecoded = [{"bytes": None, "path": paths[0]}, *({"bytes": contents, "path": "x"} for contents in files[1:])]
    for column in (images, list(images), files, paths, [Image.open(path) for path in paths], undecoded):
        assert_is_answered(predictor({"image": column}), repurposer, images, 0.8)
    assert_is_answered(predictor(pd.DataFrame({"image": files})), repurposer, images, 0.8)
    with pytest.raises(
        UnreadableImageError,
        match=r"row 1 of the batch: it cannot be read as an image: its 8.*on_error",
    ):
        predictor({"image": [files[0], b"no image"]})
    with pytest.raises(UnreadableImageError, match="row 0 of the batch: it is missing"):
        predictor({"image": [None, files[0]]})


def test_rows_that_cannot_be_answered_say_why_beside_the_others() -> None:
    images, _ = pictures(3, seed=1)
    files = [as_file(image) for image in images]
    repurposer = of_images()
    column = [files[0], b"no image", None, files[1][:-60], files[2]]
    answered = repurposer.predictor(0.8, on_error="null")({"image": column})
    assert [error is None for error in answered["error"]] == [True, False, False, False, True]
    assert "it is missing" in answered["error"][2]
    assert answered["label"][1:4] == answered["set"][1:4] == [None] * 3
    assert np.isnan(answered["p_value"][1:4]).all()
    kept = {name: [answered[name][0], answered[name][4]] for name in ADDED}
    assert_is_answered(kept, repurposer, images[[0, 2]], 0.8)
    of_rows = of_numbers().predictor(on_error="null")
    rows = [NEW[0], NEW[1][:2], np.full(4, np.nan), NEW[2]]
    assert [error is None for error in of_rows({"x": rows})["error"]] == [True, False, False, True]
    nothing = of_rows(pd.DataFrame({"x": [None, None]}, index=[4, 4]))
    assert nothing["label"].isna().all()
    assert nothing.index.tolist() == [4, 4]


def test_texts_are_answered_and_never_taken_for_paths() -> None:
    repurposer = of_texts()
    texts = ["a good film", "bad, bad.png"]
    assert_is_answered(repurposer.predictor(0.7)({"text": texts}), repurposer, texts, 0.7)
    assert_is_answered(repurposer.predictor(0.7)(pd.DataFrame({"text": texts})), repurposer, texts, 0.7)


def test_what_is_trained_later_does_not_change_it() -> None:
    repurposer = of_numbers()
    predictor = repurposer.predictor()
    before = repurposer.predict_label(NEW).tolist()
    repurposer.repurpose((X, np.arange(60) % 2))
    assert predictor({"x": NEW})["label"].tolist() == before


def test_any_number_of_threads_may_call_it(repurposer: Any) -> None:
    predictor = pickle.loads(pickle.dumps(repurposer.predictor(0.85)))
    with ThreadPoolExecutor(4) as threads:
        for answered in threads.map(predictor, [{"x": NEW}] * 12):
            assert_is_answered(answered, repurposer, NEW, 0.85)


def test_another_process_answers_the_same_without_pandas(tmp_path: Path, repurposer: Any) -> None:
    place = tmp_path / "saved"
    for number, predictor in enumerate([repurposer.predictor(), repurposer.predictor(path=place)]):
        (tmp_path / f"{number}.pickle").write_bytes(pickle.dumps(predictor))
    np.save(tmp_path / "new.npy", NEW)
    code = """
import pickle, sys, numpy as np
class NotInstalled:
    def find_spec(name, path=None, target=None):
        if name in ("pandas", "pyarrow", "fastapi", "ray", "datasets"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NotInstalled)
new = np.load("new.npy")
for number in (0, 1):
    predictor = pickle.load(open(f"{number}.pickle", "rb"))
    pickle.dump(predictor({"x": new}), open(f"{number}.answers", "wb"))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    for number in (0, 1):
        assert_is_answered(pickle.loads((tmp_path / f"{number}.answers").read_bytes()), repurposer, NEW)


def test_datasets_maps_it_over_batches(repurposer: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"x": NEW.tolist(), "id": list(range(20))})
    predictor = repurposer.predictor(input="x")
    options = {"batched": True, "batch_size": 8, "cache_file_name": str(tmp_path / "cache.arrow")}
    answered = rows.map(predictor, **options)
    assert answered.column_names == ["x", "id", *ADDED]
    assert_is_answered(answered[:], repurposer, NEW)
    assert datasets.fingerprint.Hasher.hash(predictor) == datasets.fingerprint.Hasher.hash(
        repurposer.predictor(input="x")
    )


def test_datasets_of_images_are_left_as_they_were(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images, _ = pictures(4, seed=1)
    files = [{"bytes": as_file(image), "path": None} for image in images]
    rows = datasets.Dataset.from_dict({"image": files}).cast_column("image", datasets.Image())
    repurposer = of_images()
    answered = rows.map(repurposer.predictor(0.8), batched=True, cache_file_name=str(tmp_path / "cache.arrow"))
    assert_is_answered(answered[:], repurposer, images, 0.8)
    undecoded = answered.cast_column("image", datasets.Image(decode=False))
    assert undecoded[2]["image"]["bytes"] == files[2]["bytes"]


@pytest.mark.slow  # Ray starts processes of its own, in ten seconds and more
def test_ray_data_maps_it_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray import data

    repurposer = of_images()
    images, _ = pictures(40, seed=1)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", configure_logging=False)
    try:
        listed = [{"id": number, "image": as_file(image)} for number, image in enumerate(images)]
        rows = data.from_items(listed, override_num_blocks=2)
        predictor = repurposer.predictor(0.8, input="image")
        for options in ({}, {"batch_format": "pandas", "concurrency": 1}):
            answered = rows.map_batches(predictor, batch_size=16, **options).to_pandas().sort_values("id")
            answered["set"] = [list(labels) for labels in answered["set"]]
            assert_is_answered(answered, repurposer, images, 0.8)
    finally:
        ray.shutdown()
