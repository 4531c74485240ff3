"""Training the members of an ensemble: where the checkpoints of each one lie, and the seed that all of them share."""

from os import PathLike
from pathlib import Path

from numpy.random import RandomState

from repurpose.seeding import draw_seed
from repurpose.training.checkpoints.checkpoints import Checkpoints
from repurpose.training.distributed.process_group import ProcessGroup

__all__ = ["open_checkpoints", "seed_of_training"]


def open_checkpoints(
    directory: str | PathLike | None, member: int, n_members: int, process_group: ProcessGroup
) -> Checkpoints | None:
    """Open the checkpoints of one member; of several, each has a folder of its own in the directory."""
    if directory is None:
        return None
    folder = Path(directory) / f"member{member}" if n_members > 1 else Path(directory)
    # one process makes the folder and tries to write; if it cannot, all raise its error and none waits
    return process_group.from_main_process(lambda: Checkpoints(folder))


def seed_of_training(random_state: int | RandomState | None, checkpoints: Checkpoints | None) -> int:
    """Draw the seed from `random_state`; without one, take that of the training to resume, if there is one."""
    found = None if checkpoints is None or random_state is not None else checkpoints.seed()
    return draw_seed(random_state) if found is None else found
