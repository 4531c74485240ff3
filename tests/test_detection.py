"""`python -m benchmarks detection`: scenes, a head that knows, one backbone, findings and the report, untrained."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.adapters.cells import CELLS, Cell, Result, add
from benchmarks.adapters.methods import TUNING_SEEDS
from benchmarks.detection import backbones, overfitting, perfect, scenes, throughput, transfer
from benchmarks.detection.findings import Findings
from benchmarks.detection.report import write
from benchmarks.detection.scenes import LEARNED, OTHERS, write_scenes
from model_handler import ModelHandler
from repurpose.detection import DetectionTruth, VocFolderData, detection_rows
from repurpose.detection.networks import build_detector, find_feature_maps


def small_backbone() -> nn.Sequential:
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Conv2d(n, m, 3, 2, 1), nn.ReLU()) for n, m in zip((3, 4, 8, 8, 8), (4, 8, 8, 8, 8))]
    return nn.Sequential(*stages)


def result(part: str, kind: str, seed: int, rate: float = 0.0, **measures: float) -> Result:
    return Result(
        Cell(part, kind, rate, seed), {name.replace("_", " "): value for name, value in measures.items()}, "c"
    )


def test_scenes_are_read_back_as_they_were_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ink = np.zeros((5000, 28, 28), np.uint8)
    ink[:, 7:21, 14:21] = 255  # a quarter from the top and a half from the left, to three quarters
    monkeypatch.setattr(scenes, "_mnist", lambda: (ink, np.arange(5000) % 10))
    for root, difficult in ((tmp_path / "plain", 0.0), (tmp_path / "difficult", 1.0)):
        for split in (LEARNED, OTHERS):
            write_scenes(root, split, 3, seed=1, sides=(80, 90), difficult=difficult)
    learned, others, marked = (
        list(detection_rows(VocFolderData(tmp_path / root, split)).truths())
        for root, split in (("plain", LEARNED), ("plain", OTHERS), ("difficult", LEARNED))
    )
    assert [truth.boxes.tolist() for truth in learned] != [truth.boxes.tolist() for truth in others]
    for truth, same in zip(learned, marked, strict=True):
        assert 1 <= len(truth.boxes) <= 4
        assert set(truth.labels) <= set("0123456789")
        assert min(truth.size) >= 80
        assert max(truth.size) <= 90
        np.testing.assert_array_equal(truth.boxes, same.boxes)
        widths, heights = (truth.boxes[:, 2:] - truth.boxes[:, :2]).T
        assert (np.abs(heights - 2 * widths) <= 3).all()  # a pixel of each edge is half inked
        assert same.ignored.all()
        assert not truth.ignored.any()


def test_a_head_that_knows_gives_the_true_boxes_of_images_made_smaller() -> None:
    backbone = small_backbone()
    handler = ModelHandler(backbone)
    found = find_feature_maps(handler, torch.empty(1, 3, 64, 64, device="meta"))
    network = build_detector(handler, found, 2, image_size=64, channels=64).eval()
    sizes = [(64, 96), (128, 100)]
    boxes = [[[3, 5, 30, 40], [31, 5, 60, 40]], [[50, 60, 100, 128]]]
    labels = [["b", "a"], ["b"]]
    truths = [
        DetectionTruth(np.array(b, dtype=np.float32), np.array(n, dtype=object), np.zeros(len(n), bool), size)
        for b, n, size in zip(boxes, labels, sizes)
    ]
    fcos = network.get_submodule("detector")
    fcos.head = perfect.KnowingHead(truths, ["a", "b"], fcos.transform)
    with torch.no_grad():
        made = network([torch.zeros(3, *size) for size in sizes])
    for each, wanted, names in zip(made, boxes, labels):
        order = each["boxes"][:, 0].argsort()
        np.testing.assert_allclose(each["boxes"][order], wanted, atol=1e-3)
        assert ["ab"[code] for code in each["labels"][order]] == names
        assert each["scores"].min() > 0.999


def test_a_backbone_is_examined() -> None:
    found = backbones.examine(small_backbone().eval(), 64)
    assert found == {"strides": (8, 16, 32), "layouts": ("first",) * 3, "fixed_size": 0}

    assert backbones.family_of(nn.Conv2d(1, 1, 1)) == "conv"


def test_a_backbone_fails_of_which_a_part_that_maps_depend_on_does_not_learn() -> None:
    network = small_backbone()
    network[1].register_forward_hook(lambda module, given, output: output.detach())
    with pytest.raises(AssertionError, match=r"^2 parameters did not learn, on some of which maps depend: 0.0.weight"):
        backbones.examine(network.eval(), 64)
    network = small_backbone()
    network.insert(2, Beside())
    assert backbones.examine(network.eval(), 64)["strides"] == (8, 16, 32)


class Beside(nn.Module):
    """A parameter that changes nothing, and dropout of which little is left."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.dropout = nn.Parameter(torch.ones(1, 1)), nn.Dropout(0.999)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(x) + 0 * self.token


def test_findings_are_those_of_the_chosen_rates_and_paired() -> None:
    name, ours, other = transfer.NAME, transfer.PRETRAINED, transfer.RANDOM
    tuning = [result(name, ours, TUNING_SEEDS[0], 0.1, ap50=0.9), result(name, ours, TUNING_SEEDS[0], 0.2, ap50=0.5)]
    counted = [result(name, ours, seed, 0.1, ap50=value) for seed, value in enumerate((0.5, 0.7))]
    left_out = [result(name, ours, 0, 0.2, ap50=0.0)]
    bases = [result(name, other, seed, 0.3, ap50=value) for seed, value in enumerate((0.2, 0.3))]
    findings = Findings([*tuning, *counted, *left_out, *bases])
    gain = findings.difference(name, ours, other, "ap50")
    assert gain is not None
    assert (round(gain.mean, 6), round(gain.error, 6)) == (0.35, 0.05)
    assert findings.values(name, ours, "ap50") == {0: 0.5, 1: 0.7}


def test_speed_is_the_median_of_the_ratios_of_runs() -> None:
    seconds = ((2.0, 1.0), (1.0, 1.0), (3.0, 1.0))
    runs = [
        result(throughput.NAME, throughput.KINDS[0], seed, torchvision=theirs, ours=ours)
        for seed, (theirs, ours) in enumerate(seconds)
    ]
    ratio = Findings(runs).speed(throughput.NAME, throughput.KINDS[0], throughput.OURS, throughput.THEIRS)
    assert ratio is not None
    assert (ratio.median, ratio.least, ratio.largest, ratio.n_runs) == (2.0, 1.0, 3.0, 3)


def test_the_report_says_what_is_met_missed_and_not_measured(tmp_path: Path) -> None:
    learned = {"ap": 0.9, "loss": 0.1, "seconds": 500.0, "of_process": 100.0}
    cells = [
        result(overfitting.NAME, kind, 0, ap50=ap50, **learned) for kind, ap50 in (("fcos", 0.99), ("retinanet", 0.9))
    ]
    rules = dict.fromkeys(perfect.RULES, 1.0)
    cells += [result(perfect.NAME, kind, 0, true=5.0, found=6.0) for kind in perfect.KINDS]
    cells = [
        Result(each.cell, {**each.measures, **(rules if each.cell.part == perfect.NAME else {})}, "c") for each in cells
    ]
    add(cells, tmp_path / CELLS)
    networks = [
        backbones.Result("timm", "net_a", "passed", family="net", strides=(8, 16), layouts=("first", "first"), side=64),
        backbones.Result("timm", "net_b", "failed", "it gives no map", family="net"),
    ]
    (tmp_path / backbones.CELLS).write_text("".join(json.dumps(asdict(each)) + "\n" for each in networks))
    write(tmp_path, tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    verdicts = {line.split("|")[1].strip(): line.split("|")[3].strip() for line in lines if line.count("|") == 4}
    assert {aim.split(":")[0]: verdict for aim, verdict in verdicts.items() if ":" in aim} == {
        "overfitting, fcos": "met",
        "overfitting, retinanet": "**missed**",
        "transfer": "not measured",
        "a perfect detector": "met",
        "throughput, training": "not measured",
        "throughput, inference": "not measured",
        "backbones": "**missed**",
    }
    assert "- `net_b` (timm): it gives no map" in lines
    assert any(line.startswith("| `net_a`") and "8, 16" in line for line in lines)
