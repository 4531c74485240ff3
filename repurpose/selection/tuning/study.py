"""The study of a tuning, in memory or in a journal file that is gone on with after the process was killed.

Only JSON is read from the file. A lock beside it, which the system releases however a process ends, keeps others out.
"""

import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from model_handler.errors import CorruptFileError
from model_handler.files.locks import locked
from model_handler.files.whole_files import make_folder
from model_handler.files.write_errors import writing

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.storages import BaseStorage
    from optuna.study import Study

__all__ = ["INTERRUPTED", "begin_study", "kept_seed", "needed_optuna", "open_storage", "quiet"]

INTERRUPTED = "interrupted"  # of a trial during which the process ended: it counts for nothing
_STUDY, _SEED = "tuning", "seed"
_BEGINNING = b'{"op_code":'
_SECONDS_TO_WAIT = 1.0


def needed_optuna() -> ModuleType:
    """Import Optuna. Raises ImportError saying how it is installed."""
    try:
        with _without_bars():
            import optuna
    except ImportError as error:
        raise ImportError(f"tune needs a package: pip install optuna ({error})") from error
    return optuna


def _without_bars() -> AbstractContextManager[object]:
    """Leave out what the first import of Optuna says in a notebook about progress bars, which are not used here.

    Later ones do nothing: to set filters is to show warnings again that were shown already.
    """
    if "optuna" in sys.modules:
        return nullcontext()
    return warnings.catch_warnings(action="ignore")


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out inside this block what Optuna logs of studies that begin."""
    logging = needed_optuna().logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def open_storage(study_file: str | PathLike | None) -> Iterator["BaseStorage"]:
    """Open what studies are kept in, for this process alone while the block lasts.

    Raises CorruptFileError for a file that is no journal, OSError where it cannot be written, TimeoutError where
    another process is tuning with it.
    """
    storages = needed_optuna().storages
    if study_file is None:
        yield storages.InMemoryStorage()
        return
    path = Path(study_file)
    make_folder(path.parent)
    with _held(path):
        _cut_torn_line(path)
        with writing(path):
            backend = storages.journal.JournalFileBackend(str(path), lock_obj=_Held())
        try:
            storage = storages.JournalStorage(backend)
        except Exception as error:  # whatever Optuna meets in lines of JSON that are not its own
            raise CorruptFileError(f"{path} is damaged: {type(error).__name__}: {error}") from error
        yield storage


def begin_study(storage: "BaseStorage", name: str, description: Mapping[str, str], pruner: "BasePruner") -> "Study":
    """Begin a study, or go on with the one of that name.

    Raises ValueError, naming all that differs, where what is kept is a study of something else.
    """
    optuna, name = needed_optuna(), f"{_STUDY} {name}".strip()
    kept = {study.study_name: study for study in storage.get_all_studies()}
    if kept and not any(other.startswith(_STUDY) for other in kept):
        shown = ", ".join(map(repr, kept))
        raise ValueError(f"the study file holds {shown}, which tune did not make; give another file")
    if name in kept:
        _refuse_other(kept[name].user_attrs, description, begun=bool(storage.get_n_trials(kept[name]._study_id)))
    else:
        storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], name)
    # its sampler is never asked: each trial has one of its own
    study = optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler(0), pruner=pruner)
    for key, value in description.items():
        if key not in study.user_attrs:
            study.set_user_attr(key, value)
    for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def kept_seed(storage: "BaseStorage") -> int | None:
    """Return the seed of the tuning that is kept there; None where there is none yet."""
    own = [study for study in storage.get_all_studies() if study.study_name.startswith(_STUDY)]
    seeds = [study.user_attrs[_SEED] for study in own if _SEED in study.user_attrs]
    return int(seeds[0]) if seeds else None


def _refuse_other(found: Mapping[str, Any], description: Mapping[str, str], *, begun: bool) -> None:
    """Raise ValueError for another description; of a study that has no trials yet, a part may not be written down."""
    differences = [
        f"{name}: {_shortened(found.get(name))} in the file, now {_shortened(value)}"
        for name, value in description.items()
        if found.get(name) != value and (begun or name in found)
    ]
    if differences:
        raise ValueError(
            "the study file is that of another tuning, which cannot be gone on with:\n"
            + "\n".join(differences)
            + "\nGive another study_file, or all that was given then"
        )


def _shortened(value: object, longest: int = 300) -> str:
    text = str(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


@contextmanager
def _held(path: Path) -> Iterator[None]:
    lock = path.with_name(f"{path.name}.lock")
    try:
        holding = locked(lock, seconds=_SECONDS_TO_WAIT)
        holding.__enter__()
    except TimeoutError as error:
        raise TimeoutError(f"another process is tuning with {path}; wait for it, or give another study_file") from error
    try:
        yield
    finally:
        holding.__exit__(None, None, None)


class _Held:
    """The lock that Optuna takes for each line that it writes: held already, as long as the study is open."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _cut_torn_line(path: Path) -> None:
    """Cut off the last line where its writing was interrupted; lines behind it would make no sense of it.

    Raises CorruptFileError, and leaves the file as it is, where this is no journal of Optuna's.
    """
    if not path.exists():
        return
    *lines, rest = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not _is_entry(line):
            raise CorruptFileError(f"{path} is no study file, or is damaged: line {number} is no entry of a journal")
    if rest:
        if rest[: len(_BEGINNING)] != _BEGINNING[: len(rest)]:
            raise CorruptFileError(f"{path} is no study file: it does not end as a journal does")
        with writing(path), path.open("r+b") as file:
            file.truncate(sum(len(line) + 1 for line in lines))


def _is_entry(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and "op_code" in entry
