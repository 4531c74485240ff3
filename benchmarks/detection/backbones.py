"""Backbones: every ConvNet of torchvision and the networks of timm's families, each made a detector as it is.

Weights are random, images small; FCOS with 64 channels on it learns for one step and finds objects in one image. No
dropout and no stochastic depth: a block that the one step leaves out would not learn. Each network has a process of
its own.
"""

import json
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.coverage.networks import EXCLUDED, build, networks_of
from benchmarks.coverage.sweep import answer_of

__all__ = ["CELLS", "LIBRARIES", "NAME", "Result", "examine", "family_of", "read_results", "sweep"]

NAME = "backbones"
CELLS = "backbones.jsonl"
LIBRARIES = ("timm", "torchvision")
_ROOT = Path(__file__).parents[2]
_SECONDS = 300  # for one network
_PRELOADED = [
    "torch",
    "torchvision",
    "timm",
    "repurpose.detection",
    "benchmarks.coverage.conformance",
    "benchmarks.detection.backbones",
]


@dataclass(frozen=True)
class Result:
    """One network: `status` is "passed", "failed" or "excluded", and `reason` says why not.

    `strides` and `layouts` are those of the maps found; `fixed_size` is 0 where the network takes any size.
    """

    library: str
    name: str
    status: str
    reason: str = ""
    family: str = ""
    strides: tuple[int, ...] = ()
    layouts: tuple[str, ...] = ()
    fixed_size: int = 0
    side: int = 0
    n_parameters: int = 0
    seconds: float = 0.0
    version: str = ""
    commit: str = ""


def sweep(file: Path, commit: str, *, only: Sequence[str] | None = None) -> None:
    """Try the networks that are not in `file` yet, or those named anew, and add what is found."""
    known = {(result.library, result.name) for result in read_results(file)}
    file.parent.mkdir(parents=True, exist_ok=True)
    for library, name in _subjects():
        if (library, name) in known if only is None else name not in only:
            continue
        result = _tried(library, name, commit)
        with file.open("a") as lines:
            lines.write(json.dumps(asdict(result)) + "\n")
        print(f"{library}/{name}: {result.status} {result.strides} {result.seconds:.0f} s {result.reason}", flush=True)


def read_results(file: Path) -> list[Result]:
    """Return the last result of each network."""
    if not file.exists():
        return []
    found = [json.loads(line) for line in file.read_text().splitlines()]
    tuples = [{**each, "strides": tuple(each["strides"]), "layouts": tuple(each["layouts"])} for each in found]
    return list({(each["library"], each["name"]): Result(**each) for each in tuples}.values())


def examine(network: nn.Module, side: int) -> dict[str, Any]:
    """Make a detector of a network, and raise where it does not learn, or does not find as it should."""
    from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

    from model_handler import ModelHandler, Source
    from repurpose.detection import DetectionRepurposer, Detections
    from repurpose.detection.networks import find_feature_maps

    _without_chance(network)
    source = Source(network, Compose([Resize(side), CenterCrop(side), ToTensor()]), "the network")
    detector = DetectionRepurposer(
        source,
        image_size=side,
        channels=64,
        batch_size=2,
        num_epochs=1,
        optimizer_params={"weight_decay": 0.0},  # so that a weight moves by its gradient alone
        random_state=0,
        verbose=False,
    )
    data = _images(side)
    (found,) = detector.repurpose(data).predict_objects(data[0][0])
    if not isinstance(found, Detections) or found.labels.dtype != detector.classes_.dtype:
        raise AssertionError("what was found has other labels than training")
    still = _not_moved(network, detector.target_model_)
    if still and _maps_depend_on(detector.target_model_, still, side):
        raise AssertionError(f"{len(still)} parameters did not learn, on some of which maps depend: {still[0]} ...")
    maps = find_feature_maps(ModelHandler(source), torch.zeros(1, 3, side, side))
    return {
        "strides": tuple(maps.strides),
        "layouts": tuple(each.layout for each in maps.maps),
        "fixed_size": maps.fixed_size[0] if maps.fixed_size else 0,
    }


def family_of(network: nn.Module) -> str:
    """Return the module that defines a network, by which timm and torchvision sort families."""
    return type(network).__module__.rpartition(".")[2]


def _subjects() -> Iterator[tuple[str, str]]:
    for library in LIBRARIES:
        segmentation = _of_segmentation() if library == "torchvision" else set()
        for name in networks_of(library):
            if name not in segmentation and not (library == "torchvision" and name.startswith("vit_")):
                yield library, name


def _of_segmentation() -> set[str]:
    import torchvision

    return set(torchvision.models.list_models(module=torchvision.models.segmentation))


def _tried(library: str, name: str, commit: str) -> Result:
    about = {"version": version(library), "commit": commit}
    if reason := EXCLUDED[library].get(name):
        return Result(library, name, "excluded", reason, **about)
    start = time.perf_counter()
    found = answer_of(_examine, library, name, _SECONDS, _PRELOADED)
    if reasons := found.pop("reasons", None):
        found["reason"] = "; ".join(reasons.values())
    return Result(library, name, **found, seconds=round(time.perf_counter() - start, 1), **about)


def _examine(library: str, name: str, sender: Connection) -> None:
    """In a process of its own: make a network, examine it, and send what was found."""
    from benchmarks.coverage.conformance import settle

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    try:
        network, inputs, _ = build(library, name)
        side = int(inputs.shape[-1])
        n_parameters = sum(parameter.numel() for parameter in network.parameters())
        found = {"family": family_of(network), "side": side, "n_parameters": n_parameters}
        found |= {"status": "passed", **examine(settle(network).eval(), side)}
    except Exception as error:
        last = traceback.format_exception(error)[-2].strip().splitlines()[0].replace(f"{_ROOT}/", "")
        found |= {"status": "failed", "reason": f"{type(error).__name__}: {error} ({last})"[:400]}
    sender.send(found)
    sender.close()


def _images(side: int) -> list[tuple[Tensor, dict[str, Any]]]:
    """Make two images of noise with a brighter square, which is the object."""
    drawing = np.random.default_rng(0)
    pixels = drawing.integers(0, 128, size=(2, 3, side, side), dtype=np.uint8)
    first, last = side // 4, side * 3 // 4
    pixels[:, :, first:last, first:last] += 100
    return [(torch.from_numpy(each), {"boxes": [[first, first, last, last]], "labels": ["square"]}) for each in pixels]


def _without_chance(network: nn.Module) -> None:
    """Set the shares that dropout and stochastic depth leave out to zero, in place."""
    for module in network.modules():
        for name in ("p", "drop_prob"):  # torch's and torchvision's, timm's
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _not_moved(source: nn.Module, trained: nn.Module) -> list[str]:
    """List the matrices of weights that are where they began; the trunk has the names of the source."""
    before = dict(source.named_parameters())
    shared = [(name, weight, before[name]) for name, weight in trained.named_parameters() if name in before]
    return [name for name, weight, first in shared if weight.ndim > 1 and torch.equal(weight, first.to(weight))]


def _maps_depend_on(trained: nn.Module, names: Sequence[str], side: int) -> bool:
    """Say whether other values of these parameters, which are set, make other maps.

    What computes a class token alone, which maps leave out, does not.
    """
    backbone = trained.get_submodule(f"{trained.detector_name}.backbone")
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, side, side, generator=generator)
    with torch.no_grad():
        before = list(backbone(image).values())
        for name in names:
            weight = trained.get_parameter(name)
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
        return not all(map(torch.equal, before, backbone(image).values()))
