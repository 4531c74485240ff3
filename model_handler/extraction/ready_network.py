"""The ready network is a copy on the device, with its programs and fused weights, each made when first needed."""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import fx, nn

from model_handler.extraction.backends import HookBackend, TracedBackend
from model_handler.extraction.batchnorm_fusion import BatchNormFusion
from model_handler.extraction.fast_path import FastPath
from model_handler.extraction.pooling import Wanted
from model_handler.extraction.programs import Pass, TracedProgram
from model_handler.network.inputs import NamedInputs
from model_handler.network.precision import lower_dtype, tolerance
from model_handler.network.replica import Workspace

__all__ = ["ReadyNetwork"]

_MAX_PATHS = 16  # kept for later calls; a new lambda as pooling makes a new one each time


class ReadyNetwork:
    """What only running `network` on `device` needs; it holds copies of weights, and can be dropped at any time."""

    def __init__(self, network: nn.Module, device: torch.device, precision: str) -> None:
        self._network = network
        self._device = device
        self._precision = precision
        self._workspace: Workspace | None = None
        self._paths: dict[Hashable, FastPath] = {}
        self._fusion = BatchNormFusion(lower_dtype(precision))

    @property
    def workspace(self) -> Workspace:
        if self._workspace is None:
            with torch.inference_mode(False):
                self._workspace = Workspace(self._network, self._device)
        return self._workspace

    def refresh(self) -> None:
        """Bring weights and buffers up to date with those of the network; fused ones when they are next used."""
        if self._workspace is not None:
            self._workspace.refresh()
        self._fusion.expire()

    def forget_programs(self) -> None:
        """Drop the programs, as those of another backend take their place."""
        self._paths.clear()

    def path_to_layers(
        self, backend: TracedBackend | HookBackend, wanted: Sequence[Wanted], inputs: NamedInputs
    ) -> FastPath:
        """Return the path by which rows of the named layers are computed; the names must be known to the backend."""

        def plain() -> Pass:
            return Pass(backend.programs(self.workspace.module, wanted, inputs))

        def fast() -> TracedProgram | None:
            if not isinstance(backend, TracedBackend):
                return None
            return backend.fast_program(self.workspace.module, wanted, self._fusion)

        return self._path((tuple(wanted), tuple(inputs)), plain, fast)

    def path_to_nodes(self, backend: TracedBackend, nodes: tuple[fx.Node, ...], *, folded: bool) -> FastPath:
        """Return the path by which what nodes of the graph hold is computed."""

        def plain() -> Pass:
            return Pass([(backend.program_of(self.workspace.module, nodes), list(range(len(nodes))))])

        def fast() -> TracedProgram | None:
            return backend.program_of(self.workspace.module, nodes, self._fusion) if folded else None

        return self._path((nodes, folded), plain, fast)

    def _path(self, key: Hashable, plain: Callable[[], Pass], fast: Callable[[], TracedProgram | None]) -> FastPath:
        if key not in self._paths:
            while len(self._paths) >= _MAX_PATHS:
                del self._paths[next(iter(self._paths))]
            slow = plain()
            faster = fast() if self._device.type != "mps" else None  # which has no float64 to fold in
            self._paths[key] = FastPath(slow, faster, self._fusion, tolerance=tolerance(self._precision))
        return self._paths[key]
