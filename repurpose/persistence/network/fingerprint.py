"""The fingerprint of a network tells whether a saved repurposer was trained with it, and its table what differs.

The table has the dtype, the shape and a hash of the bytes of each tensor in the state of the network, by name.
"""

from collections.abc import Mapping
from hashlib import sha256

from torch import Tensor, nn

from model_handler.errors import first_few
from model_handler.files.canonical_json import canonical
from model_handler.network.tensors import tensor_bytes

__all__ = ["Table", "fingerprint", "fingerprint_of_table", "layers_of", "shapes_of", "table_differences", "table_of"]

Table = Mapping[str, list]  # [dtype, shape, hash] by name; of what is no tensor, its type in place of the dtype
_DIGITS = 32  # of the SHA-256 of a tensor


def fingerprint(network: nn.Module) -> str:
    """Compute the SHA-256, in hexadecimal, of every name, shape, dtype and byte of the network's state."""
    digest = sha256()
    for name, tensor in network.state_dict().items():
        if not isinstance(tensor, Tensor):  # extra state of a module's own
            digest.update(f"{name}:{type(tensor).__qualname__};".encode())
            continue
        # Names and shapes too: the same bytes under other names are another network.
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def table_of(network: nn.Module) -> Table:
    """Describe each tensor of the network's state by name: ``["float32", [5, 4], "0a1b..."]``."""
    return {name: _entry(value) for name, value in network.state_dict().items()}


def shapes_of(network: nn.Module) -> Table:
    """Describe each tensor by name as `table_of` does, without the hash, which takes time."""
    return {name: _shape(value) for name, value in network.state_dict().items()}


def fingerprint_of_table(table: Table) -> str:
    """Compute the SHA-256, in hexadecimal, of a table, as canonical JSON text."""
    return sha256(canonical(table).encode()).hexdigest()


def layers_of(network: nn.Module) -> str:
    """Compute the SHA-256, in hexadecimal, of the class of each of torch's layers, by name.

    Those of other libraries are left out, since these rename their classes.
    """
    own = [
        (name, type(part)) for name, part in network.named_modules() if type(part).__module__.startswith("torch.nn.")
    ]
    return sha256(canonical([[name, kind.__name__] for name, kind in own]).encode()).hexdigest()


def table_differences(saved: Table, now: Table) -> list[str]:
    """Say what differs between two tables, a phrase a kind with the first few names; nothing where they are equal."""
    both = [name for name in saved if name in now]
    other_shapes = [name for name in both if saved[name][1] != now[name][1]]
    other_dtypes = [name for name in both if saved[name][0] != now[name][0]]
    alike = [name for name in both if saved[name][:2] == now[name][:2]]
    found = {
        "it lacks": [name for name in saved if name not in now],
        "it has further": [name for name in now if name not in saved],
        "other shapes:": [f"{name} is {tuple(now[name][1])}, saved {tuple(saved[name][1])}" for name in other_shapes],
        "other dtypes:": [f"{name} is {now[name][0]}, saved {saved[name][0]}" for name in other_dtypes],
        "other numbers in": [name for name in alike if saved[name][2:] != now[name][2:]],
    }
    return [f"{what} {first_few(names)}" for what, names in found.items() if names]


def _entry(value: object) -> list:
    digest = sha256(tensor_bytes(value)).hexdigest()[:_DIGITS] if isinstance(value, Tensor) else ""
    return [*_shape(value), digest]


def _shape(value: object) -> list:
    if isinstance(value, Tensor):
        return [str(value.dtype).removeprefix("torch."), list(value.shape)]
    return [type(value).__qualname__, []]  # extra state of a module's own
