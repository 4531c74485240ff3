"""`TransferEstimator` has what all share that reuse a source network: parameters, learning all or nothing, saving.

What is predicted is a matter of those that derive from it: `Repurposer` for labels, `detection` for boxes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import nn

from model_handler import Source
from model_handler.data import data_name, random_part, watching_workers
from model_handler.network.copying import CopiedByValue
from model_handler.network.device import check_device
from model_handler.user_warnings import warn_user
from repurpose.display import DisplayMixin
from repurpose.estimator import NetworkEstimator
from repurpose.fitted import all_or_nothing, fitted_attributes
from repurpose.parameters import full_signature, is_whole, mistakes_found, unknown_parameters
from repurpose.persistence.interface import SavingMixin
from repurpose.persistence.registry import register
from repurpose.persistence.values.schema import Maybe, Sizes, Table, Whole, check_learned
from repurpose.seeding import new_prediction_seed

__all__ = ["TransferEstimator"]

_MOST_WORKERS = 1024  # that a file can ask for; each is a process or a thread


class TransferEstimator(SavingMixin, DisplayMixin, CopiedByValue, NetworkEstimator):
    """Base of all that learn from few examples by reusing a source network.

    Parameters
    ----------
    source_model, transform, device, batch_size, num_workers, random_state, verbose
        As in `Repurposer`.
    """

    _used_in_training_only: tuple[str, ...] = ()  # parameters that a file may leave out

    # Of what is learned, and so of what a file can hold; classes below add theirs.
    _schema: ClassVar[Table] = {"prediction_seed_": Maybe(Whole(0, 2**32 - 1))}

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        *,
        transform: Callable | None = None,
        device: str | torch.device = "auto",
        batch_size: int = 32,
        num_workers: int = 0,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | None = None,
        **unknown: object,
    ) -> None:
        if unknown:
            raise TypeError(unknown_parameters(type(self), unknown))
        self.source_model = source_model
        self.transform = transform
        self.device = device
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.random_state = random_state
        self.verbose = verbose

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        register(cls)
        cls.__signature__ = full_signature(cls)

    @classmethod
    def restored(cls, parameters: Mapping[str, Any], learned: Mapping[str, Any]) -> Self:
        """Return the repurposer of these parameters that has learned these attributes; `repurpose.load` reads both."""
        repurposer = cls(**parameters)
        check_learned(cls, learned, repurposer._sizes_of(learned))
        repurposer._take_from_file(learned)
        repurposer._note_training()
        repurposer._check_restored()
        return repurposer

    @property
    def target_model(self) -> Any:
        """The trained model, `target_model_`; read-only."""
        self._check_is_repurposed()
        return self.target_model_

    @contextmanager
    def _learning(self, data: object) -> Iterator[None]:
        """Learn in this block, in place, all of it or nothing; parameters have been judged by `_check_parameters`."""
        with all_or_nothing(self), watching_workers(data_name(data)):
            if (seed := new_prediction_seed(self.random_state)) is not None:
                self.prediction_seed_ = seed
            yield

    def _check_parameters(self) -> None:
        """Raise TypeError for what is no source, ValueError listing every parameter that cannot be used."""
        self._check_source()
        if mistakes := self._parameter_mistakes():
            raise ValueError("\n".join(mistakes))

    def _learned_for_file(self) -> dict[str, Any]:
        """Return everything learned, by attribute name, as a file can hold it."""
        return fitted_attributes(self)

    def _sizes_of(self, learned: Mapping[str, Any]) -> Sizes:
        """Return the sizes that shapes in `_schema` have names for. Raises ValueError where they cannot be known."""
        return {}

    def _take_from_file(self, learned: Mapping[str, Any]) -> None:
        """Set what `_learned_for_file` gave."""
        for name, value in learned.items():
            setattr(self, name, value)

    def _check_restored(self) -> None:
        """Raise ValueError where what a file gave cannot answer: its parts do not fit each other."""
        if mistakes := TransferEstimator._parameter_mistakes(self):
            raise ValueError("; ".join(mistakes))
        for name in ("num_workers", "n_jobs"):
            if is_whole(number := getattr(self, name, None), _MOST_WORKERS + 1):
                raise ValueError(f"{name} must be at most {_MOST_WORKERS:,}, got {number!r}")

    def _note_training(self) -> None:
        """Remember what must not change between training and prediction; called after loading too."""

    def _parameter_mistakes(self) -> list[str]:
        """Return a sentence for each parameter that cannot be used; subclasses add theirs."""
        mistakes = []
        if not is_whole(self.batch_size, 1):
            mistakes.append(f"batch_size must be a whole number of at least 1, got {self.batch_size!r}")
        if not is_whole(self.num_workers, 0):
            mistakes.append(f"num_workers must be a whole number of at least 0, got {self.num_workers!r}")
        if self.transform is not None and not callable(self.transform):
            mistakes.append(f"transform must be callable or None, got {self.transform!r}")
        if self.verbose not in (None, True, False):
            mistakes.append(f"verbose must be True, False or None, got {self.verbose!r}")
        mistakes += mistakes_found(lambda: check_device(self.device))
        try:
            check_random_state(self.random_state)
        except ValueError:
            mistakes.append(f"random_state must be an int, a RandomState or None, got {self.random_state!r}")
        return mistakes

    def _warn_of_random_rows(self, data: object, consequence: str) -> None:
        """Give a UserWarning where rows are others each time they are read."""
        if name := random_part((data, self.transform)):
            message = f"{name} in the data or the transform draws anew each time a row is read, so {consequence}"
            warn_user(message)
