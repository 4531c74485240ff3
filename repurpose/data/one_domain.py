"""Methods that learn from one domain say who takes a second one."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["without_source_data"]

Method = TypeVar("Method", bound=Callable)

_WHO_DOES = (
    "it learns from one domain. The classes of repurpose.domain take labelled rows of a neighbouring one, such as "
    "CoralRepurposer and ImportanceWeightedRepurposer; DomainRepurposer(network, head=LrRepurposer(network)) trains a "
    "head of your choice on the rows of both"
)


def without_source_data(method: Method) -> Method:
    """Return the method of a class that takes no source data: an error that says who does, the signature as it is.

    A class with advice of its own has it as `_instead_of_source_data`.
    """

    @wraps(method)
    def refusing(self: object, *args: object, **kwargs: object) -> Any:
        if "source_data" in kwargs:
            raise TypeError(
                f"{type(self).__name__}.{method.__name__}() got an unexpected keyword argument 'source_data': "
                f"{getattr(self, '_instead_of_source_data', _WHO_DOES)}"
            )
        return method(self, *args, **kwargs)

    return refusing  # type: ignore[return-value]
