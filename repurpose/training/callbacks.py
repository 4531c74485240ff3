"""Callbacks do what a user wants while a network trains, such as logging to a file or to TensorBoard.

A plain function of (state, record) is called after each epoch; a `Callback` may do more.
"""

import csv
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

from model_handler.files.whole_files import make_folder
from model_handler.files.write_errors import writing
from repurpose.training.state import TrainingState

__all__ = ["Callback", "CsvLog", "TensorBoardLog"]


class Callback:
    """Is called while a network trains; override what is needed. Training ends when a call returns True.

    Of several processes the main one alone calls it. What has to follow each step in all of them, such as an average of
    the weights, is done by `Objective.after_step`.

    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import NeuralNetworkFineTuneRepurposer
    >>> from repurpose.training import Callback
    >>> class StopAfter(Callback):
    ...     def __init__(self, n_steps):
    ...         self.n_steps = n_steps
    ...     def __call__(self, state, record):
    ...         return state.step >= self.n_steps
    ...
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = NeuralNetworkFineTuneRepurposer(network, "1", batch_size=10, callbacks=[StopAfter(6)])
    >>> len(repurposer.repurpose(make_blobs(30)).history_)  # epochs of three steps each
    2
    """

    def begin(self, state: TrainingState) -> None:
        """Is called before the first epoch."""

    def step(self, state: TrainingState, loss: float) -> bool | None:
        """Is called after each step of the optimiser, with the mean loss of its rows."""

    def __call__(self, state: TrainingState, record: dict[str, Any]) -> bool | None:
        """Is called after each epoch, with its record of the history."""

    def end(self, state: TrainingState) -> None:
        """Is called after the last epoch, also when it ended by an error."""


class CsvLog(Callback):
    """Writes a line for each epoch to a CSV file, by Python's own writer, and replaces a file that is there.

    Where training resumes from a checkpoint, the lines of the epochs before it are written again.

    >>> from pathlib import Path
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import NeuralNetworkFineTuneRepurposer
    >>> from repurpose.training import CsvLog
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = NeuralNetworkFineTuneRepurposer(network, "1", num_epochs=2, callbacks=[CsvLog("log.csv")])
    >>> repurposer = repurposer.repurpose(make_blobs(30))
    >>> print(Path("log.csv").read_text())
    epoch,loss,accuracy,seconds,...
    0,...
    1,...
    """

    def __init__(self, path: str | PathLike) -> None:
        self.path = Path(path)
        self._names: list[str] | None = None

    def begin(self, state: TrainingState) -> None:
        self._names = None
        make_folder(self.path.parent)
        with writing(self.path):
            self.path.write_text("")  # before training, so that an unwritable file does not show after an hour
        for record in state.history:
            self(state, record)

    def __call__(self, state: TrainingState, record: dict[str, Any]) -> None:
        flat = _flat(record)
        with writing(self.path), self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._names or list(flat), extrasaction="ignore")
            if self._names is None:
                self._names = list(flat)
                writer.writeheader()
            writer.writerow(flat)


class TensorBoardLog(Callback):
    """Writes each epoch to a directory for TensorBoard, by torch.utils.tensorboard: ``pip install tensorboard``.

    >>> from pathlib import Path
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import NeuralNetworkFineTuneRepurposer
    >>> from repurpose.training import TensorBoardLog
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = NeuralNetworkFineTuneRepurposer(network, "1", num_epochs=2, callbacks=[TensorBoardLog("log")])
    >>> repurposer = repurposer.repurpose(make_blobs(30))
    >>> [path.name for path in Path("log").iterdir()]
    ['events.out.tfevents...']
    """

    def __init__(self, directory: str | PathLike) -> None:
        self.directory = Path(directory)
        self._writer: Any = None

    def begin(self, state: TrainingState) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(f"TensorBoardLog needs a package: pip install tensorboard ({error})") from error
        self._writer = SummaryWriter(str(self.directory))

    def __call__(self, state: TrainingState, record: dict[str, Any]) -> None:
        for name, value in _flat(record).items():
            if name != "epoch" and isinstance(value, Real):
                self._writer.add_scalar(name, value, record["epoch"])

    def end(self, state: TrainingState) -> None:
        if self._writer is not None:
            self._writer.close()


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    rates = {f"learning_rate/{name}": rate for name, rate in record.get("learning_rates", {}).items()}
    return {**{name: value for name, value in record.items() if name != "learning_rates"}, **rates}
