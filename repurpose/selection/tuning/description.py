"""What a study in a file must share with the call that goes on with it, as text by name."""

from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from model_handler import Source
from model_handler.data import as_batches
from model_handler.network.outputs import tensors_in
from repurpose.data.kinds import is_features
from repurpose.persistence.network.fingerprint import fingerprint
from repurpose.repurposer import Repurposer
from repurpose.selection.tuning.space import Space
from repurpose.selection.tuning.tuned_data import TunedData
from repurpose.training.checkpoints.configuration import describe, describe_labels

__all__ = ["describe_tuning"]

# what changes no score, or is another thing in each process
_NOT_COMPARED = (
    "source_model",
    "verbose",
    "device",
    "num_workers",
    "callbacks",
    "checkpoint_dir",
    "cache_dir",
    "cache_key",
)
_N_ROWS_READ = 16


def describe_tuning(
    repurposer: Repurposer, labelled: Any, data: TunedData, space: Space, scoring: str, seed: int
) -> dict[str, str]:
    """Describe the Repurposer, its network, the data, the space, the scorer and the seed."""
    parameters = {
        name: value
        for name, value in repurposer.get_params(deep=False).items()
        if name not in _NOT_COMPARED and name not in space
    }
    source = repurposer._open_source()
    network = source.network if isinstance(source, Source) else source
    return {
        "repurposer": f"{type(repurposer).__module__}.{type(repurposer).__qualname__}",
        "parameters": describe(dict(sorted(parameters.items()))),
        "network": f"{type(network).__qualname__} of SHA-256 {fingerprint(network)}",
        "labels": f"{len(data.labels)}, {describe_labels(data.labels, in_order=True)}",
        "groups": "none" if data.groups is None else describe_labels(data.groups, in_order=True),
        "inputs": _describe_inputs(repurposer, labelled, len(data.labels)),
        "space": describe(dict(sorted(space.describe().items()))),
        "scoring": scoring,
        "seed": str(seed),
    }


def _describe_inputs(repurposer: Repurposer, data: Any, n_rows: int) -> str:
    """Compute a checksum of some rows as they are read; say so where they cannot be told from others."""
    if isinstance(data, (DataLoader, IterableDataset)):
        return "unknown"
    rows = np.unique(np.linspace(0, n_rows - 1, _N_ROWS_READ).astype(np.int64))
    found = {_checksum(repurposer, data, rows) for _ in range(2)}
    return f"SHA-256 {found.pop()}" if len(found) == 1 else "random"


def _checksum(repurposer: Repurposer, data: Any, rows: np.ndarray) -> str:
    if is_features(data):
        return sha256(np.ascontiguousarray(data.matrix[rows]).tobytes()).hexdigest()
    checksum = sha256()
    for batch in as_batches(data, rows=rows, **repurposer._reading()):
        for part in tensors_in(batch.inputs):
            checksum.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return checksum.hexdigest()
