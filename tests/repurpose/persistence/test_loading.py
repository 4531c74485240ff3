import logging
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as save_arrays
from torch import nn
from torchvision import transforms

from model_handler import CorruptFileError, FormatVersionError, Source, load_source
from repurpose import BnnRepurposer, LrRepurposer, NeuralNetworkFineTuneRepurposer, load
from repurpose import source as source_module
from repurpose.persistence import registry
from tests.repurpose.examples import KnnRepurposer, blob_features, blobs, identity_network, lr, small_network
from tests.repurpose.saved_files import edit, edit_files, exchange, files_of, plan_of


def mean_over_positions(output: torch.Tensor) -> torch.Tensor:
    return output.flatten(2).mean(2) if output.ndim > 2 else output


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    LrRepurposer(small_network(), ["2"], c=1.0).repurpose(*blobs()).save_repurposer(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_network_given_as_module_must_be_given_again(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"given as a module.*load\(path, source_model=\.\.\.\).*a Sequential"):
        load(saved)


def test_a_network_of_other_weights_is_refused(saved: Path) -> None:
    for other in (small_network(seed=1), identity_network(), small_network().double()):
        with pytest.raises(ValueError, match=r"not the network that .* was trained with \(a Sequential\)"):
            load(saved, source_model=other)
    with pytest.raises(TypeError, match="source_model must be"):
        load(saved, source_model=3)


def test_parameters_given_to_load_take_the_place_of_saved_ones(saved: Path) -> None:
    loaded = load(saved, small_network(), batch_size=3, verbose=False)
    assert (loaded.batch_size, loaded.verbose, loaded.c) == (3, False, 1.0)
    with pytest.raises(ValueError, match="LrRepurposer has no parameter 'bach_size'; nearest: batch_size"):
        load(saved, small_network(), bach_size=3)


def test_functions_are_left_out_and_asked_for_again(tmp_path: Path) -> None:
    X, y = blobs()
    repurposer = LrRepurposer(small_network(), ["2"], c=1.0, pooling=mean_over_positions, transform=nn.Identity())
    repurposer.repurpose(X, y).save_repurposer(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"pooling was a function .* load\(path, pooling=\.\.\.\)") as error:
        load(tmp_path / "saved", small_network())
    assert "transform was a function" in str(error.value)
    loaded = load(tmp_path / "saved", small_network(), pooling=mean_over_positions, transform=None)
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))


def test_a_source_given_by_name_is_found_again_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "load_source", lambda name: Source(small_network(), name=name))
    source_module._load_once.cache_clear()
    X, y = blobs()
    repurposer = LrRepurposer("torchvision/mine", ["2"], c=1.0).repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.source_model == "torchvision/mine"
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    source_module._load_once.cache_clear()


def test_what_an_older_version_saved_keeps_the_resize_of_its_source(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(4)]
    steps = [
        transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([127 / 255] * 3, [128 / 255] * 3),
    ]
    network = load_source("efficientnet-lite0").network
    old = LrRepurposer(network, ["_conv_stem"], c=1.0, transform=transforms.Compose(steps), batch_size=4)
    expected = old.repurpose(images, [0, 0, 1, 1]).predict_probability(images)
    old.save_repurposer(tmp_path / "old")
    fingerprinted = plan_of(tmp_path / "old")["source"]
    fingerprinted["loaded_as"] = "efficientnet-lite0"

    def as_version_1(plan: dict[str, Any]) -> None:
        plan.update(format=1, source={"name": "efficientnet-lite0"}, left_out=[])

    edit(tmp_path / "old", as_version_1)
    for given in ({}, {"source_model": "efficientnet-lite0"}):
        loaded = load(tmp_path / "old", **given)
        assert loaded.source_model == "efficientnet-lite0-bicubic"
        np.testing.assert_array_equal(loaded.predict_probability(images), expected)
    edit(tmp_path / "old", lambda plan: plan.update(source=fingerprinted))
    loaded = load(tmp_path / "old", source_model=load_source("efficientnet-lite0"))
    assert loaded.source_model == "efficientnet-lite0-bicubic"
    np.testing.assert_array_equal(loaded.predict_probability(images), expected)
    with pytest.raises(ValueError, match="loaded as 'efficientnet-lite0-bicubic'"):
        load(tmp_path / "old")
    edit(tmp_path / "old", as_version_1)
    loaded.save_repurposer(tmp_path / "again")
    np.testing.assert_array_equal(load(tmp_path / "again").predict_probability(images), expected)
    edit(tmp_path / "old", lambda plan: plan.update(format=2))
    now = load(tmp_path / "old")
    assert now.source_model == "efficientnet-lite0"
    assert np.abs(now.predict_probability(images) - expected).max() > 1e-4


def test_a_source_object_is_asked_for_by_its_name(tmp_path: Path) -> None:
    LrRepurposer(Source(small_network(), name="timm/mine"), ["2"], c=1.0).repurpose(*blobs()).save_repurposer(
        tmp_path / "s"
    )
    with pytest.raises(ValueError, match="a Sequential, loaded as 'timm/mine'"):
        load(tmp_path / "s")
    assert load(tmp_path / "s", Source(small_network())).feature_layer_names == ["2"]
    assert load(tmp_path / "s", small_network()).c_ == 1.0


def test_an_unknown_class_is_named_with_what_to_import_and_never_imported(saved: Path) -> None:
    edit(saved, lambda plan: plan.update({"class": "os:system"}))
    with pytest.raises(ValueError, match=r"'os:system', .* import it first \(import os\).*Known classes: .*Repurposer"):
        load(saved, small_network())
    edit(saved, lambda plan: plan.update({"class": "__main__:Mine"}))
    with pytest.raises(ValueError, match="define Mine in this script or notebook"):
        load(saved, small_network())


def test_a_class_defined_again_takes_the_place_of_the_old(tmp_path: Path) -> None:
    def define() -> type:
        class Notebook(KnnRepurposer):
            pass

        return Notebook

    first = define()
    first(identity_network(), ["0"]).repurpose(blob_features()).save_repurposer(tmp_path / "saved")
    second = define()
    assert type(load(tmp_path / "saved", identity_network())) is second
    assert registry.find_class(registry.class_name(first), "a file") is second


def test_nothing_saved_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such directory"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no manifest\.json"):
        load(tmp_path)


def test_a_newer_format_asks_for_an_upgrade(saved: Path) -> None:
    edit(saved, lambda plan: plan.update(format=99))
    with pytest.raises(FormatVersionError, match=r"format 99, written by repurpose-torch .* upgrade the library"):
        load(saved, small_network())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plan: plan.pop("format"), "states no format"),
        (lambda plan: plan.pop("fitted"), "damaged: no usable"),
        (lambda plan: plan.update(parameters=[]), "damaged: no usable"),
        (lambda plan: plan["fitted"].update(__class__="x"), "damaged: no learned names"),
        (lambda plan: plan["fitted"].update(predict="x"), "damaged: no learned names"),
        (lambda plan: plan["fitted"].update(c_={"type": "code"}), "the unknown type 'code'"),
        (lambda plan: plan["fitted"].update(c_={"type": "array", "key": "k", "order": "C"}), "'k' is missing"),
        (lambda plan: plan["fitted"].update(c_={"type": "skops", "file": "../x"}), r"'\.\./x' is missing"),
        (lambda plan: plan["parameters"].update(colour="red"), "no parameter 'colour'"),
        (lambda plan: plan.update(left_out=["colour"]), "no parameter 'colour'"),
        (lambda plan: plan.update(left_out=[["pooling"]]), "left out are no names"),
        (lambda plan: plan.update(left_out=["c"] * 100_000), "left out are no names"),
        (lambda plan: plan.update(format=0), "states no format"),
        (lambda plan: plan.update({"class": "x" * 100_000}), r"asks for the class 'x{200}', which"),
        (lambda plan: plan.update(left_out=["pooling"]), "saved cannot be loaded in this way"),
    ],
)
def test_a_damaged_plan_is_refused_with_the_reason(saved: Path, change: Any, message: str) -> None:
    edit(saved, change)
    with pytest.raises(ValueError, match=message):
        load(saved, small_network())


def test_what_a_file_says_is_told_in_few_words(saved: Path) -> None:
    def say_much(plan: Any) -> None:
        plan["source"]["network"] = plan["library"]["version"] = "x" * 100_000

    edit(saved, say_much)
    with pytest.raises(ValueError, match="is not in the file") as refusal:
        load(saved)
    assert len(str(refusal.value)) < 1000
    edit(saved, lambda plan: plan.update(format=10**4000))
    with pytest.raises(FormatVersionError) as refusal:
        load(saved)
    assert len(str(refusal.value)) < 1000


def test_damaged_files_are_named(saved: Path) -> None:
    file = files_of(saved)["arrays.safetensors"]
    whole = file.read_bytes()
    file.write_bytes(whole[:40])
    with pytest.raises(CorruptFileError, match=r"arrays-\w+\.safetensors is damaged: it has 40 bytes"):
        load(saved, small_network())
    exchange(saved, "arrays.safetensors", whole[:40])  # by who knows the format
    with pytest.raises(CorruptFileError, match=r"arrays\.safetensors .* was cut"):
        load(saved, small_network())
    files_of(saved)["arrays.safetensors"].unlink()
    with pytest.raises(CorruptFileError, match=r"no file .*arrays-\w+\.safetensors, which .*manifest\.json names"):
        load(saved, small_network())
    edit_files(saved, lambda files: files.clear())
    with pytest.raises(CorruptFileError, match=r"manifest\.json names no arrays\.safetensors"):
        load(saved, small_network())
    (saved / "manifest.json").write_text("{")
    with pytest.raises(CorruptFileError, match=r"manifest\.json is damaged"):
        load(saved, small_network())


def test_a_damaged_estimator_is_refused(tmp_path: Path) -> None:
    KnnRepurposer(identity_network(), ["0"]).repurpose(blob_features()).save_repurposer(tmp_path / "saved")
    exchange(tmp_path / "saved", "estimator_0.skops", b"nonsense")
    with pytest.raises(CorruptFileError, match="cannot be loaded"):
        load(tmp_path / "saved", identity_network())


def test_a_loaded_repurposer_learns_clones_and_saves_like_any_other(saved: Path, tmp_path: Path) -> None:
    loaded = load(saved, small_network())
    X, y = blobs()
    expected = loaded.predict_probability(X)
    loaded.save_repurposer(tmp_path / "again")
    assert np.array_equal(load(tmp_path / "again", small_network()).predict_probability(X), expected)
    assert np.array_equal(loaded.repurpose(X, y).predict_probability(X), expected)


def test_a_class_that_brings_its_own_source_is_loaded_without_one(tmp_path: Path) -> None:
    class Ready(LrRepurposer):
        def __init__(self, c: float = 1.0) -> None:
            super().__init__(small_network(), ["2"], c=c)

    X, y = blobs()
    repurposer = Ready(c=0.5).repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    assert np.array_equal(load(tmp_path / "saved").predict_probability(X), repurposer.predict_probability(X))


def test_the_chosen_c_and_its_scores_come_back(tmp_path: Path) -> None:
    repurposer = lr(c="auto", random_state=0).repurpose(blob_features())
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", identity_network())
    assert (loaded.c_, loaded.c_scores_) == (repurposer.c_, repurposer.c_scores_)


def test_what_an_earlier_version_saved_has_no_hashes_and_that_is_said(tmp_path: Path) -> None:
    old = Path(__file__).parents[2] / "saved" / "0.1" / "lr_named" / "saved"
    with pytest.warns(UserWarning, match=r"was saved by an earlier version, without hashes.*writes it anew") as caught:
        loaded = load(old)
    assert caught[0].filename == __file__
    loaded.save_repurposer(tmp_path / "new")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path / "new")


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "one class": lambda fitted: fitted.update(classes_=fitted["row_shape_"]),
    "a number of features": lambda fitted: fitted["n_features_per_layer_"]["items"].update({"2": 10**12}),
    "a negative number of features": lambda fitted: fitted["n_features_per_layer_"]["items"].update({"2": -1}),
    "another layer": lambda fitted: fitted.update(feature_layer_names_=["7"]),
    "layers that are a number": lambda fitted: fitted.update(feature_layer_names_=7),
    "a head that is a number": lambda fitted: fitted.update(target_model_=1),
    "rows of text": lambda fitted: fitted.update(training_features_="abc"),
    "codes that are rows": lambda fitted: fitted.update(training_codes_=fitted["training_features_"]),
    "a shape that is a text": lambda fitted: fitted.update(row_shape_="abc"),
    "a head that is missing": lambda fitted: fitted.pop("target_model_"),
    "something more": lambda fitted: fitted.update(more_=1),
    "a method that there is none": lambda fitted: fitted.update(unfamiliarity_method_="none"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_cannot_answer_is_refused_before_it_is_asked(saved: Path, lie: str) -> None:
    edit(saved, lambda plan: LIES[lie](plan["fitted"]))
    with pytest.raises(CorruptFileError, match="saved cannot be loaded: "):
        load(saved, small_network())


def test_wide_text_is_refused_without_its_memory(saved: Path) -> None:
    wide = {"type": "texts", "dtype": "<U500000000", "shape": [3], "items": ["a", "b", "c"]}
    edit(saved, lambda plan: plan["fitted"].update(class_names_=wide))
    tracemalloc.start()
    with pytest.raises(CorruptFileError, match="3 texts, each with room for 500,000,000 characters"):
        load(saved, small_network())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000


def test_a_parameter_given_wrong_is_no_damage_of_the_file_and_a_right_one_hides_none(saved: Path) -> None:
    with pytest.raises(ValueError, match="batch_size must be a whole number") as caught:
        load(saved, small_network(), batch_size=0)
    assert not isinstance(caught.value, CorruptFileError)
    edit(saved, lambda plan: plan["fitted"].update(target_model_=1))
    with pytest.raises(CorruptFileError, match="cannot be loaded"):
        load(saved, small_network(), batch_size=2)


@pytest.mark.parametrize("device", ["cuda", "cuda:3", {"type": "device", "name": "cuda:0"}])
@pytest.mark.parametrize("kind", [LrRepurposer, NeuralNetworkFineTuneRepurposer])
def test_what_a_gpu_learned_predicts_where_there_is_none(tmp_path: Path, kind: Any, device: Any) -> None:
    X, y = blobs()
    options: dict[str, Any] = {"c": 1.0} if kind is LrRepurposer else {"num_epochs": 1}
    repurposer = kind(small_network(), "2" if "num_epochs" in options else ["2"], device="cpu", **options)
    repurposer.repurpose(X, y).save_repurposer(tmp_path / "saved")
    edit(tmp_path / "saved", lambda plan: plan["parameters"].update(device=device))
    with (
        patch("torch.cuda.is_available", lambda: False),
        pytest.warns(UserWarning, match="was saved with device='cuda.*', which is not here: it is loaded") as caught,
    ):
        loaded = load(tmp_path / "saved", small_network())
    assert caught[0].filename == __file__
    assert loaded.device == "auto"
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path / "saved", small_network(), device="cpu").device == "cpu"
    with patch("torch.cuda.is_available", lambda: False), pytest.raises(ValueError, match="device='cuda' cannot be"):
        load(tmp_path / "saved", small_network(), device="cuda").predict_label(X)


def test_other_versions_of_libraries_are_told_in_the_log_alone(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert plan_of(saved)["libraries"]["torch"] == torch.__version__
    with caplog.at_level(logging.INFO, "repurpose"):
        load(saved, small_network())
        assert not caplog.messages
        edit(saved, lambda plan: plan["libraries"].update(torch="1.0", numpy=3))
        load(saved, small_network())
    (said,) = caplog.messages
    assert said == (f"{saved} was saved with torch 1.0 (here {torch.__version__}), numpy 3 (here {np.__version__})")


def rewritten(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    """Change the arrays of a saved repurposer, and make all hashes right again."""
    arrays = load_arrays(files_of(folder)["arrays.safetensors"])
    change(arrays)
    exchange(folder, "arrays.safetensors", save_arrays(arrays))


def key_of(arrays: dict[str, np.ndarray], end: str) -> str:
    return next(name for name in arrays if end in name)


WRONG_ARRAYS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "NaN": (lambda coef: np.full_like(coef, np.nan), r"target_model_\.coef_ .*, which holds other numbers, where"),
    "infinity": (lambda coef: np.full_like(coef, np.inf), r"target_model_\.coef_ .*finite"),
    "another dtype": (lambda coef: coef.astype(np.float32), r"target_model_\.coef_ is .*float32.*float64"),
    "another shape": (lambda coef: coef[:, :-1].copy(), r"target_model_\.coef_ is .*shape \(3, 4\).*\(3, 5\)"),
    "another order of axes": (lambda coef: coef.T.copy(), r"target_model_\.coef_ is .*shape \(5, 3\)"),
}


@pytest.mark.parametrize("wrong", WRONG_ARRAYS)
def test_a_weight_that_cannot_be_is_refused_by_its_name_at_load(saved: Path, wrong: str) -> None:
    change, said = WRONG_ARRAYS[wrong]
    rewritten(saved, lambda arrays: arrays.update({(key := key_of(arrays, "coef_")): change(arrays[key])}))
    with pytest.raises(CorruptFileError, match=f"saved cannot be loaded: its {said}"):
        load(saved, small_network(), c=1.0)  # which has nothing to do with it


def test_an_array_more_or_less_is_refused(saved: Path) -> None:
    rewritten(saved, lambda arrays: arrays.update({"../more": np.zeros(1)}))
    with pytest.raises(CorruptFileError, match=r"saved cannot be loaded: it holds '\.\./more', which nothing"):
        load(saved, small_network())
    rewritten(saved, lambda arrays: (arrays.pop("../more"), arrays.pop(key_of(arrays, "coef_"))))
    with pytest.raises(CorruptFileError, match=r"saved cannot be loaded: .*coef_.* is missing"):
        load(saved, small_network())


def test_a_device_of_another_machine_becomes_auto_and_none_is_refused(saved: Path) -> None:
    before = load(saved, small_network()).predict_probability(blobs()[0])
    edit(saved, lambda plan: plan["parameters"].update(device="xpu:3"))
    with pytest.warns(UserWarning, match=r"saved was saved with device='xpu:3'.*with device=.auto") as caught:
        found = load(saved, small_network())
    assert caught[0].filename == __file__
    assert found.device == "auto"
    assert np.array_equal(found.predict_probability(blobs()[0]), before)
    for device in ("meta", "nonsense", 3, None):
        edit(saved, lambda plan, device=device: plan["parameters"].update(device=device))
        with pytest.raises(CorruptFileError, match="saved cannot be loaded"):
            load(saved, small_network())


@pytest.mark.parametrize("name", ["num_workers", "n_jobs"])
def test_a_parameter_that_starts_thousands_of_processes_is_refused(saved: Path, name: str) -> None:
    edit(saved, lambda plan: plan["parameters"].update({name: 10**6}))
    with pytest.raises(CorruptFileError, match=f"saved cannot be loaded: {name} must be at most 1,024"):
        load(saved, small_network())


def test_a_bayesian_network_asks_for_no_more_than_it_has(tmp_path: Path) -> None:
    made = BnnRepurposer(small_network(), ["2"], c=1.0, num_epochs=1, n_hidden=3, num_samples_mc_prediction=4)
    made.repurpose(*blobs()).save_repurposer(tmp_path / "saved")
    plan = plan_of(tmp_path / "saved")
    for change in (
        lambda plan: plan["fitted"]["target_model_"]["fields"]["items"].update(n_draws=10**9),
        lambda plan: plan["parameters"].update(n_hidden=10**9),
        lambda plan: plan["parameters"].update(num_samples_mc_prediction=10**9),
    ):
        edit(tmp_path / "saved", change)
        with pytest.raises(CorruptFileError, match=r"saved cannot be loaded: .*(10,000|10000|shapes)"):
            load(tmp_path / "saved", small_network())
        edit(tmp_path / "saved", lambda now: (now.clear(), now.update(plan)))
    assert load(tmp_path / "saved", small_network()).target_model_.n_draws == 4


def test_members_and_histories_that_are_not_in_the_file_are_not_made(tmp_path: Path) -> None:
    made = NeuralNetworkFineTuneRepurposer(small_network(), "2", num_epochs=1, num_members=2, random_state=0)
    made.repurpose(*blobs()).save_repurposer(tmp_path / "saved")
    edit(
        tmp_path / "saved",
        lambda plan: plan["fitted"].update(member_histories_=plan["fitted"]["member_histories_"] * 3000),
    )
    with pytest.raises(CorruptFileError, match="has 12 weights and buffers, where 6,000 times 6"):
        load(tmp_path / "saved", small_network())


def test_classes_of_ours_that_are_imported_apart_are_known() -> None:
    apart = ("offsite_repurposer:OffsiteRepurposer", "plugged_repurposer:PluggedInRepurposer")
    names = [f"repurpose.offsite.{name}" for name in apart]
    script = f"""
import sys, repurpose
from repurpose.persistence.registry import find_class
assert "repurpose.offsite" not in sys.modules  # or this would show nothing
for name in {names}:
    print(find_class(name, "a file").__name__)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["OffsiteRepurposer", "PluggedInRepurposer"]
