"""The methods of `repurpose train` by their words: what learns from one domain, and what from a source domain too."""

from collections.abc import Mapping
from enum import StrEnum
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from repurpose.cli.output.mistakes import UsageMistake

if TYPE_CHECKING:
    from repurpose import MetaModelRepurposer

__all__ = [
    "AUTO",
    "Head",
    "LayerOption",
    "Method",
    "SourceOption",
    "check_goes_together",
    "layer_names",
    "make_repurposer",
    "source_reads_text",
    "takes_source_data",
]


AUTO = "auto"  # in place of layers

SourceOption = Annotated[
    str,
    typer.Option(
        help="The network: a name that `repurpose sources` lists, hf/ORG/NAME or a directory; for texts minilm."
    ),
]
LayerOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Take features from this layer; may be repeated. auto: chosen by the labels. Default: the last before the "
        "classifier."
    ),
]


class Head(StrEnum):
    """What is trained on the features."""

    LR = "lr"
    GP = "gp"
    SVM = "svm"
    LAPLACE = "laplace"
    BNN = "bnn"


class Method(StrEnum):
    """How images are learned from: a head of one domain, or a method that learns from a source domain too."""

    LR = "lr"
    GP = "gp"
    SVM = "svm"
    LAPLACE = "laplace"
    BNN = "bnn"
    POOLED = "pooled"
    CORAL = "coral"
    SUBSPACE = "subspace"
    TCA = "tca"
    KMM = "kmm"
    KLIEP = "kliep"
    CLASSIFIER = "classifier"
    TRADABOOST = "tradaboost"


_OF_ONE_DOMAIN: Mapping[Method, str] = {
    Method.LR: "LrRepurposer",
    Method.GP: "GpRepurposer",
    Method.SVM: "SvmRepurposer",
    Method.LAPLACE: "LaplaceRepurposer",
    Method.BNN: "BnnRepurposer",
}
_OF_TWO_DOMAINS: Mapping[Method, tuple[str, dict[str, str]]] = {
    Method.POOLED: ("DomainRepurposer", {}),
    Method.CORAL: ("CoralRepurposer", {}),
    Method.SUBSPACE: ("SubspaceAlignmentRepurposer", {}),
    Method.TCA: ("TcaRepurposer", {}),
    Method.KMM: ("ImportanceWeightedRepurposer", {"method": "kmm"}),
    Method.KLIEP: ("ImportanceWeightedRepurposer", {"method": "kliep"}),
    Method.CLASSIFIER: ("ImportanceWeightedRepurposer", {"method": "classifier"}),
    Method.TRADABOOST: ("TrAdaBoostRepurposer", {}),
}


def takes_source_data(method: Method) -> bool:
    """Tell whether a method learns from labelled images of a source domain beside those of the target."""
    return method in _OF_TWO_DOMAINS


def check_goes_together(
    method: Method, head: Head | None, layers: list[str] | str | None, source_data: list[str]
) -> None:
    """Raise UsageMistake for a method without the source data that it needs, or beside options that it cannot use."""
    if takes_source_data(method):
        if not source_data:
            raise UsageMistake(
                f"--method {method} needs --source-data FOLDER: labelled images of a neighbouring domain, one "
                f"sub-folder a class; without any, --method {head or Head.LR} learns from the target alone"
            )
        if layers == AUTO:
            raise UsageMistake(
                f"--layer auto chooses by labelled images of the target, of which --method {method} needs none; leave "
                "it out, or give --layer NAME"
            )
        return
    if source_data:
        raise UsageMistake(
            f"--method {method} learns from one folder and takes no --source-data; leave that out, or choose a method "
            f"that takes it: {', '.join(_OF_TWO_DOMAINS)}" + (f" (--head {method})" if method != Method.LR else "")
        )
    if head is not None:
        raise UsageMistake(f"--head is for methods with --source-data; without any, give --method {head}")


def make_repurposer(
    method: Method, head: Head | None, source: str, layers: list[str] | str | None, **options: Any
) -> "MetaModelRepurposer":
    """Make an untrained Repurposer of a network and its layers; `options` are parameters that all of them have."""
    import repurpose

    if not takes_source_data(method):
        return getattr(repurpose, _OF_ONE_DOMAIN[method])(source, layers, **options)
    from repurpose import domain

    name, own = _OF_TWO_DOMAINS[method]
    return getattr(domain, name)(source, layers, head=str(head or Head.LR), **own, **options)


def layer_names(layers: list[str]) -> list[str] | str | None:
    """Turn what --layer asked for into `feature_layer_names`.

    Raises UsageMistake for a layer given twice, and for "auto" beside one.
    """
    if repeated := sorted({name for name in layers if layers.count(name) > 1}):
        raise UsageMistake(f"--layer {quote(repeated[0])} was given more than once")
    if layers == [AUTO]:
        return AUTO
    if AUTO in layers:
        beside = [f"--layer {quote(name)}" for name in layers if name != AUTO]
        raise UsageMistake(f"--layer auto chooses among all layers; leave it out, or {' '.join(beside)}")
    return layers or None


def source_reads_text(source: str) -> bool:
    """Tell whether a network, by name or directory, reads texts."""
    from model_handler.data.text.text_transform import reads_text
    from repurpose.source import open_source

    return reads_text(getattr(open_source(source), "transform", None))
