"""On screen a Repurposer names its network, which is never printed layer by layer, and never traced for a look."""

from copy import copy
from inspect import Parameter
from typing import Any

from sklearn.base import BaseEstimator
from torch import nn

from model_handler import Source
from repurpose.fitted import fitted_attributes
from repurpose.parameters import constructor_parameters
from repurpose.source import describe_source

__all__ = ["DisplayMixin"]

_SECRETS, _HIDDEN = ("encryption_key",), "..."  # of the parameters


class DisplayMixin:
    """The text and notebook views of a scikit-learn estimator whose `source_model` is a network."""

    source_model: Any

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        shown = []
        for name, parameter in constructor_parameters(type(self)).items():
            value = getattr(self, name, parameter.default)
            if (name == "source_model" and value is not None) or isinstance(value, (nn.Module, Source)):
                shown.append(f"{name}={describe_source(value)}")
            elif name in _SECRETS and value is not None:
                shown.append(f"{name}={_HIDDEN}")
            elif parameter.default is Parameter.empty or repr(value) != repr(parameter.default):
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __dir__(self) -> list[str]:  # scikit-learn's own would read, and so trace, `source_model_handler`
        return sorted(set(object.__dir__(self)))

    def _get_params_html(self, *args: Any, **kwargs: Any) -> Any:
        """Return scikit-learn's table of parameters, with the network named instead of printed."""
        stand_in = copy(self)
        for name in constructor_parameters(type(self)):
            if name == "source_model" or isinstance(getattr(self, name, None), (nn.Module, Source)):
                setattr(stand_in, name, describe_source(getattr(self, name)).strip("'"))
        for name in _SECRETS:
            if vars(self).get(name) is not None:
                setattr(stand_in, name, _HIDDEN)
        return super(DisplayMixin, stand_in)._get_params_html(*args, **kwargs)  # type: ignore[misc]

    def _get_fitted_attr_html(self, *args: Any, **kwargs: Any) -> Any:
        """Return scikit-learn's table of what was learned, without reading properties that would trace the network."""
        stand_in = BaseEstimator()
        vars(stand_in).update(fitted_attributes(self))
        return stand_in._get_fitted_attr_html(*args, **kwargs)
