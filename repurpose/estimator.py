"""`NetworkEstimator` answers what scikit-learn's tools ask of an estimator whose `source_model` is a network."""

from typing import Any, Self

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from model_handler import ModelHandler, Source
from model_handler.sharing import clone_sharing, kept_handler
from repurpose.parameters import constructor_parameters
from repurpose.source import check_source, open_source

__all__ = ["NetworkEstimator"]

_MADE_AGAIN = ("_cached_handler", "_cached_detectors", "_cached_package")  # when needed, in another process too


class NetworkEstimator(BaseEstimator):
    """A scikit-learn estimator whose clones share its network, and whose parameters are those of all its classes."""

    _of_the_source: tuple[str, ...] = ("source_model",)  # the parameters that say which network is reused
    _shared_by_clones: tuple[str, ...] = ("transform",)  # the further parameters that are not copied
    _of_the_handler: tuple[str, ...] = ("transform", "device", "batch_size", "num_workers", "verbose")

    source_model: nn.Module | Source | str
    _cached_handler: tuple[tuple[Any, ...], ModelHandler]

    @property
    def source_model_handler(self) -> ModelHandler:
        """The `ModelHandler` of the source network, made when first needed and again when its parameters change."""
        wanted = tuple(getattr(self, name) for name in (*self._of_the_source, *self._of_the_handler))
        return kept_handler(self.__dict__, wanted, self._make_handler)

    def _make_handler(self) -> ModelHandler:
        self._check_source()
        return ModelHandler(self._open_source(), **{name: getattr(self, name) for name in self._of_the_handler})

    def _check_source(self) -> None:
        """Raise TypeError unless the source is a network, a `Source` or a name."""
        check_source(self.source_model)

    def _open_source(self) -> nn.Module | Source:
        """Return the network to reuse, the same object each time while the parameters stay."""
        return open_source(self.source_model)

    def _check_is_repurposed(self) -> None:
        message = "This %(name)s has not learned anything yet (it is not fitted): call repurpose(data) first"
        check_is_fitted(self, "classes_", msg=message)

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return sorted(constructor_parameters(cls))

    def __sklearn_clone__(self) -> Self:
        """Make an untrained copy that shares the network, its preprocessing and, while they fit, the traced handler."""
        return clone_sharing(self, {*self._of_the_source, *self._shared_by_clones}, ["_cached_handler"])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.dict = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        for name in _MADE_AGAIN:
            state.pop(name, None)
        return state
