"""The registry of Repurposer classes, by the names of those defined in this process: a file can ask for no other."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar, Protocol, Self

from model_handler.errors import UnsafeFileError, nearest, with_fix
from repurpose.advice import IN_PYTHON

__all__ = ["Restorable", "class_name", "find_class", "register"]

_CLASSES: dict[str, "type[Restorable]"] = {}
# Modules of ours that `import repurpose` leaves out: they alone are imported because a file has a class of theirs.
_OURS_APART = frozenset(
    {
        "repurpose.detection.detection_repurposer",
        "repurpose.domain.coral_repurposer",
        "repurpose.domain.distillation.distilling_repurposer",
        "repurpose.domain.distillation.lwf_repurposer",
        "repurpose.domain.distillation.relational_repurposer",
        "repurpose.domain.domain_repurposer",
        "repurpose.domain.importance_weighted_repurposer",
        "repurpose.domain.networks.dan_repurposer",
        "repurpose.domain.networks.dann_repurposer",
        "repurpose.domain.networks.deep_coral_repurposer",
        "repurpose.domain.networks.domain_adaptation_repurposer",
        "repurpose.domain.networks.domain_network_repurposer",
        "repurpose.domain.networks.multi_task_repurposer",
        "repurpose.domain.standardizing_repurposer",
        "repurpose.domain.subspace_alignment_repurposer",
        "repurpose.domain.tca_repurposer",
        "repurpose.domain.tradaboost_repurposer",
        "repurpose.offsite.offsite_repurposer",
        "repurpose.offsite.plugged_repurposer",
    }
)


class Restorable(Protocol):
    """A class that files can hold: it is made again of its parameters and of what it learned."""

    _finds_its_source: ClassVar[bool]

    @classmethod
    def restored(cls, parameters: Mapping[str, Any], learned: Mapping[str, Any]) -> Self:
        """Return the object of these parameters that has learned that, as far as a file holds either."""
        ...


def class_name(cls: type) -> str:
    """Return the name under which a class is written to a file: ``module:qualname``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def register(cls: type[Restorable]) -> None:
    """Make a class loadable; one defined again under the same name, as in a notebook, takes the place of the old."""
    # No import by name: a file would then choose what code runs.
    _CLASSES[class_name(cls)] = cls


def find_class(name: str, what: str) -> type[Restorable]:
    """Find the class written as `name` in the file `what`.

    Raises UnsafeFileError, saying what to import, where it is not defined in this process: no file makes that happen.
    """
    if name not in _CLASSES and (module := name.partition(":")[0]) in _OURS_APART:
        import_module(module)
    if name in _CLASSES:
        return _CLASSES[name]
    name = name[:200]  # of a file, which may say anything
    module, _, qualname = name.partition(":")
    first = (
        f"define {qualname} in this script or notebook as it was when it was saved"
        if module == "__main__"
        else f"import it first (import {module})"
    )
    raise with_fix(
        UnsafeFileError,
        f"{what} asks for the class {name!r}, which is not known here",
        python=f"{first}, then load again. Known classes: {', '.join(nearest(name, sorted(_CLASSES), n=10))}",
        shell=IN_PYTHON,
        between=": ",
    )
