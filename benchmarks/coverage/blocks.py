"""Blocks over the sweep: what `ModelHandler.blocks` gives for each network, beside a list kept by hand.

The list says what the architecture repeats, from papers and definitions, also where something else is found; of a
network that is not listed it is only told how many blocks were found. Its section of docs/coverage.md is replaced, the
rest of the file stays.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from benchmarks.coverage.networks import EXCLUDED, LIBRARIES, build, networks_of
from benchmarks.coverage.report import BLOCKS_SECTION

__all__ = [
    "EXPECTED",
    "BlocksResult",
    "blocks_table",
    "expected_names",
    "judged",
    "read_blocks",
    "sweep_blocks",
    "write_blocks",
]

_NONE = ""

EXPECTED: dict[str, dict[str, str]] = {
    "torchvision": {
        "resnet18": "layer1.{2} layer2.{2} layer3.{2} layer4.{2}",
        "resnet50": "layer1.{3} layer2.{4} layer3.{6} layer4.{3}",
        "resnext50_32x4d": "layer1.{3} layer2.{4} layer3.{6} layer4.{3}",
        "regnet_y_400mf": "trunk_output.block1.block1-{1} trunk_output.block2.block2-{3} "
        "trunk_output.block3.block3-{6} trunk_output.block4.block4-{6}",
        "efficientnet_b0": "features.1.{1} features.2.{2} features.3.{2} features.4.{3} features.5.{3} features.6.{4} "
        "features.7.{1}",
        "mobilenet_v2": "features.{1-17}",
        "mobilenet_v3_large": "features.{1-15}",
        "mnasnet1_0": "layers.8.{3} layers.9.{3} layers.10.{3} layers.11.{2} layers.12.{4} layers.13.{1}",
        "convnext_tiny": "features.1.{3} features.3.{3} features.5.{9} features.7.{3}",
        "swin_t": "features.1.{2} features.3.{2} features.5.{6} features.7.{2}",
        "swin_v2_t": "features.1.{2} features.3.{2} features.5.{6} features.7.{2}",
        "vit_b_16": "encoder.layers.encoder_layer_{12}",
        "maxvit_t": "blocks.0.layers.{2} blocks.1.layers.{2} blocks.2.layers.{5} blocks.3.layers.{2}",
        "vgg16": _NONE,
        "alexnet": _NONE,
        "squeezenet1_1": _NONE,
        "densenet121": _NONE,
        "googlenet": _NONE,
        "inception_v3": _NONE,
        "shufflenet_v2_x1_0": _NONE,
    },
    "timm": {
        "vit_tiny_patch16_224": "blocks.{12}",
        "deit_tiny_patch16_224": "blocks.{12}",
        "deit_tiny_distilled_patch16_224": "blocks.{12}",
        "beit_base_patch16_224": "blocks.{12}",
        "beitv2_base_patch16_224": "blocks.{12}",
        "eva02_tiny_patch14_224": "blocks.{12}",
        "cait_xxs24_224": "blocks.{24} blocks_token_only.{2}",
        "xcit_nano_12_p16_224": "blocks.{12} cls_attn_blocks.{2}",
        "mixer_s32_224": "blocks.{8}",
        "swin_tiny_patch4_window7_224": "layers.0.blocks.{2} layers.1.blocks.{2} layers.2.blocks.{6} "
        "layers.3.blocks.{2}",
        "swinv2_tiny_window8_256": "layers.0.blocks.{2} layers.1.blocks.{2} layers.2.blocks.{6} layers.3.blocks.{2}",
        "pvt_v2_b0": "stages.0.blocks.{2} stages.1.blocks.{2} stages.2.blocks.{2} stages.3.blocks.{2}",
        "twins_pcpvt_small": "blocks.0.{3} blocks.1.{4} blocks.2.{6} blocks.3.{3}",
        "gcvit_xxtiny": "stages.0.blocks.{2} stages.1.blocks.{2} stages.2.blocks.{6} stages.3.blocks.{2}",
        "davit_tiny": "stages.0.blocks.{1} stages.1.blocks.{1} stages.2.blocks.{3} stages.3.blocks.{1}",
        "tnt_s_legacy_patch16_224": "blocks.{12}",
        "crossvit_tiny_240": "blocks.{3}",
        "coat_tiny": _NONE,
        "convnext_atto": "stages.0.blocks.{2} stages.1.blocks.{2} stages.2.blocks.{6} stages.3.blocks.{2}",
        "convnextv2_atto": "stages.0.blocks.{2} stages.1.blocks.{2} stages.2.blocks.{6} stages.3.blocks.{2}",
        "convmixer_768_32": "blocks.{32}",
        "poolformer_s12": "stages.0.blocks.{2} stages.1.blocks.{2} stages.2.blocks.{6} stages.3.blocks.{2}",
        "efficientnet_lite0": "blocks.0.{1} blocks.1.{2} blocks.2.{2} blocks.3.{3} blocks.4.{3} blocks.5.{4} "
        "blocks.6.{1}",
        "tf_efficientnetv2_b0": "blocks.1.{2} blocks.2.{2} blocks.3.{3} blocks.4.{5} blocks.5.{8}",
        "mobilenetv2_035": "blocks.0.{1} blocks.1.{2} blocks.2.{3} blocks.3.{4} blocks.4.{3} blocks.5.{3} blocks.6.{1}",
        "mobilenetv3_small_050": "blocks.0.{1} blocks.1.{2} blocks.2.{3} blocks.3.{2} blocks.4.{3}",
        "resnet10t": "layer1.0 layer2.0 layer3.0 layer4.0",
        "resnetv2_18": "stages.0.blocks.{2} stages.1.blocks.{2} stages.2.blocks.{2} stages.3.blocks.{2}",
        "regnety_002": "s1.b{1-1} s2.b{1-1} s3.b{1-4} s4.b{1-7}",
        "legacy_xception": "block{1-12}",
        "coatnet_pico_rw_224": "stages.0.blocks.{2} stages.1.blocks.{3} stages.2.blocks.{5} stages.3.blocks.{2}",
        "maxvit_rmlp_pico_rw_256": "stages.0.blocks.{2} stages.1.blocks.{2} stages.2.blocks.{5} stages.3.blocks.{2}",
        "hrnet_w18_small": _NONE,
        "vgg11": _NONE,
        "densenet121": _NONE,
        "inception_v4": _NONE,
    },
    "huggingface": {
        **dict.fromkeys(("bert", "roberta", "electra", "deberta", "deberta-v2", "mpnet"), "encoder.layer.{3}"),
        "distilbert": "transformer.layer.{3}",
        "albert": "encoder.albert_layer_groups.0.albert_layers.0 encoder.albert_layer_groups.0.albert_layers.0@{1-2}",
        "squeezebert": "encoder.layers.{3}",
        "modernbert": "layers.{3}",
        "vit": "layers.{3}",
        "deit": "layers.{3}",
        "beit": "layers.{3}",
        "dinov2": "encoder.layer.{3}",
        "swin": "encoder.layers.0.blocks.{2} encoder.layers.1.blocks.{2}",
        "swinv2": "encoder.layers.0.blocks.{2} encoder.layers.1.blocks.{2}",
        "convnext": "encoder.stages.0.layers.0 encoder.stages.1.layers.0 encoder.stages.2.layers.{2} "
        "encoder.stages.3.layers.0",
        "resnet": "encoder.stages.0.layers.{2} encoder.stages.1.layers.{2}",
        "segformer": "stages.0.blocks.0 stages.1.blocks.0",
    },
}
"""By library, the blocks of a network: "layer1.{3}" are three from 0 on, "features.{1-17}" are those from 1 to 17."""


@dataclass(frozen=True)
class BlocksResult:
    """What was found for one network: names of its blocks, none where it is said to have no chain, or a failure."""

    library: str
    name: str
    found: tuple[str, ...]
    failure: str = ""


def expected_names(library: str, name: str) -> list[str] | None:
    """Return the names kept by hand; None where there is no list."""
    written = EXPECTED[library].get(name)
    return None if written is None else [path for pattern in written.split() for path in _expanded(pattern)]


def judged(result: BlocksResult) -> str:
    """Return "as listed", "wrong", "failed", and where nothing is listed "found" or "none"."""
    wanted = expected_names(result.library, result.name)
    if result.failure:
        return "failed"
    if wanted is None:
        return "found" if result.found else "none"
    return "as listed" if list(result.found) == wanted else "wrong"


def sweep_blocks(library: str, file: Path, *, only: Sequence[str] | None) -> None:
    """Look for the blocks of the networks of a library, and add what is found to `file`; what is there is kept."""
    known = {result.name for result in read_blocks(file) if result.library == library}
    names = [name for name in networks_of(library) if name not in EXCLUDED[library]]
    file.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in only if only is not None else name not in known:
            result = _looked_for(library, name)
            with file.open("a") as lines:
                lines.write(json.dumps(asdict(result)) + "\n")
            print(f"{library}/{name}: {judged(result)}, {len(result.found)} blocks {result.failure}", flush=True)


def read_blocks(file: Path) -> list[BlocksResult]:
    """Return the last result of each network."""
    if not file.exists():
        return []
    read = [json.loads(line) for line in file.read_text().splitlines()]
    found = [BlocksResult(**{**result, "found": tuple(result["found"])}) for result in read]
    return list({(result.library, result.name): result for result in found}.values())


def blocks_table(results: Sequence[BlocksResult]) -> tuple[Sequence[str], list[list[object]]]:
    """Return header and rows: by library, and in all, how many networks were judged how."""
    header = ("library", "tried", "as listed by hand", "wrong", "not listed, found", "not listed, none", "failed")
    rows: list[list[object]] = []
    for library in (*LIBRARIES, ""):
        verdicts = [judged(result) for result in results if library in ("", result.library)]
        counts = [verdicts.count(verdict) for verdict in ("as listed", "wrong", "found", "none", "failed")]
        rows.append([library or "all", len(verdicts), *counts])
    return header, rows


def write_blocks(results: Sequence[BlocksResult], file: Path) -> None:
    """Put the section on blocks into a report, in the place of the one that is there or at its end."""
    header, rows = blocks_table(results)
    lines = ["## Blocks", ""]
    lines += ["Written by `python -m benchmarks coverage --blocks`. `ModelHandler.blocks` of every network, beside the"]
    lines += [f"names kept by hand for {sum(map(len, EXPECTED.values()))} of them in `benchmarks/coverage/blocks.py`."]
    lines += ["", f"| {' | '.join(header)} |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    by_verdict: dict[str, list[BlocksResult]] = {}
    for result in results:
        by_verdict.setdefault(judged(result), []).append(result)
    lines += ["", "Wrong:", "", *_differences(by_verdict.get("wrong", []))]
    lines += ["", "Failed:", "", *([f"- `{r.name}`: {r.failure}" for r in by_verdict.get("failed", [])] or ["None."])]
    none = ", ".join(f"`{result.name}`" for result in by_verdict.get("none", []))
    lines += ["", f"Not listed, and without a chain: {none or 'none'}.", ""]
    text = BLOCKS_SECTION.sub("", file.read_text()) if file.exists() else ""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*text.rstrip().splitlines(), "", *lines]))


def _looked_for(library: str, name: str) -> BlocksResult:
    """Look with the sizes of images alone where that goes, as nothing is computed then."""
    from model_handler import ModelError, ModelHandler, NoBlocksError

    def names(inputs: object) -> tuple[str, ...]:
        try:
            return tuple(block.name for block in ModelHandler(network, inputs, device="cpu", verbose=False).blocks)
        except NoBlocksError:
            return ()

    try:
        network, inputs, _ = build(library, name)
        try:
            found = names(inputs.to("meta") if isinstance(inputs, Tensor) else inputs)
        except ModelError:
            found = names(inputs)
    except Exception as error:
        return BlocksResult(library, name, (), " ".join(f"{type(error).__name__}: {error}".split())[:300])
    return BlocksResult(library, name, found)


def _differences(wrong: Sequence[BlocksResult]) -> list[str]:
    def said(names: Sequence[str]) -> str:
        return f"{len(names)}, `{names[0]}` to `{names[-1]}`" if names else "none"

    return [
        f"- `{result.name}` ({result.library}): listed {said(expected_names(result.library, result.name) or [])}; "
        f"found {said(result.found)}"
        for result in wrong
    ] or ["None."]


def _expanded(pattern: str) -> list[str]:
    before, bracket, rest = pattern.partition("{")
    if not bracket:
        return [pattern]
    numbers = rest.removesuffix("}")
    first, dash, last = numbers.partition("-")
    return [f"{before}{number}" for number in (range(int(first), int(last) + 1) if dash else range(int(first)))]
