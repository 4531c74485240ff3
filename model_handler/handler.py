"""`ModelHandler`: takes features from any layer of a network, shows what it is made of and edits it.

It checks what the user asks, and hands the work to `extraction.engine`. Its other methods are mixins over one
`surgery.edit_history`: `inspection.inspecting` looks into the network, with `blocks.finding`, which finds its chain of
blocks; `adapters.adapting` puts adapters on its layers, `surgery.editing` changes it, and `surgery.trainability` says
what learns. The user's module is never moved, switched or changed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from operator import attrgetter
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler.adapters.adapting import AdaptersMixin
from model_handler.data import Batch, Batches, as_batches, named_classes, opened, reading_options, refuse_in_prefetching
from model_handler.drawing import Drawing, check_path, draw
from model_handler.extraction.backends import TracedBackend
from model_handler.extraction.engine import NETWORK_LOCK, Engine
from model_handler.extraction.extracting import extract_features
from model_handler.extraction.pooling import Pooling, Wanted, check_poolings
from model_handler.feature_cache.caching import FeatureCache, Request, check_cache
from model_handler.feature_shards.extracting_to import ShardedExtractionMixin
from model_handler.features import Features
from model_handler.inspection.inspecting import InspectionMixin
from model_handler.network.ambient_modes import undisturbed
from model_handler.network.copying import CopiedByValue
from model_handler.network.device import check_device, resolve_device
from model_handler.network.inputs import example_tensors
from model_handler.network.precision import check_precision
from model_handler.processes import Team, teamed
from model_handler.progress import track
from model_handler.sources import Source, as_source
from model_handler.surgery.editing import EditingMixin
from model_handler.surgery.trainability import TrainabilityMixin

__all__ = ["ModelHandler"]


class ModelHandler(
    CopiedByValue, InspectionMixin, ShardedExtractionMixin, AdaptersMixin, EditingMixin, TrainabilityMixin
):
    """Takes features from the layers of a network, shows what it is made of, edits it, and says which layers learn.

    Parameters
    ----------
    model : nn.Module, Source or str
        The network; a name such as "efficientnet-lite0", "torchvision/resnet50" or "timm/vit_tiny_patch16_224" is
        loaded with its weights and its own preprocessing. A module is shared, not copied: later training is seen.
    example_inputs : tensor, tuple of tensors or dict of tensors, optional
        One batch. With it layers have output shapes, and the traced graph is compared with the network at once
        instead of at the first extraction. A tensor of torch's device "meta" (`torch.empty(1, 3, 224, 224,
        device="meta")`) gives shapes too, and nothing is computed. Without it the shapes are those of an image, where
        there is a `transform`.
    input_names : sequence of str, optional
        The arguments of `forward` that are inputs, where the ones without a default are not meant.
    transform : callable, optional
        From an image to a tensor; by default the source's own. Only images and folders use it.
    device : str or torch.device
        Where features are computed; "auto" takes a GPU where there is one.
    batch_size, num_workers : int
        The batch size and the number of workers for data that does not come as a DataLoader.
    precision : "float32" or "bfloat16"
        "bfloat16" runs convolutions and matrix products in it, which some processors do several times faster, with two
        to three digits left; features are float32 all the same. "float32" computes in the dtype of the weights.
    verbose : bool, optional
        Progress bars always or never; by default on a terminal or in a notebook for work that takes a while.
    share : bool
        Whether several processes, started by `torchrun` or `accelerate launch`, compute each extraction together: all
        of them must then make the same call with the same data, and each gets all rows.

    Raises
    ------
    TypeError
        If `model` is none of these.
    ValueError
        If `device` or `precision` is none that there is.
    ModelError
        If an input name is not an argument of `forward`, or the network fails on the example inputs.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from model_handler import ModelHandler
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> handler = ModelHandler(network, torch.rand(2, 3, 2, 2))
    >>> handler
    ModelHandler(Sequential, 4 layers, traced)
    >>> handler.drop_layer_top().add_layer_top([("head", nn.Linear(8, 3))]).freeze("1").layer_names
    ['0', '1', '2', 'head']
    >>> handler.get_module()(torch.rand(6, 3, 2, 2)).shape
    torch.Size([6, 3])
    """

    @undisturbed()
    def __init__(
        self,
        model: nn.Module | Source | str,
        example_inputs: Any = None,
        *,
        input_names: Sequence[str] | None = None,
        transform: Callable[[Any], Tensor] | None = None,
        device: str | torch.device = "auto",
        batch_size: int = 32,
        num_workers: int = 0,
        precision: str = "float32",
        verbose: bool | None = None,
        share: bool = True,
    ) -> None:
        check_precision(precision)
        example_inputs = example_tensors(example_inputs)
        source = as_source(model)
        self._input_names = None if input_names is None else tuple(input_names)
        self.name = source.name or type(source.network).__name__
        self.transform = transform or source.transform
        self._source_layer = source.layer
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.verbose = verbose
        self.share = share
        with NETWORK_LOCK:
            where = resolve_device(device, source.network)
            self._engine = Engine(source.network, where, input_names, precision=precision)
            self._shapes = {} if example_inputs is None else self._engine.shapes(example_inputs)
        self._begin_editing(example_inputs)

    @property
    def device(self) -> torch.device:
        """Where features are computed."""
        return self._engine.device

    def get_layer_output(
        self, data: Any, layer_names: Sequence[str], *, pooling: Pooling = "flatten"
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Return outputs of layers as Xfer does: name to (n_samples, n_features), and the labels, if there are any.

        As `extract`, flattened by default.

        >>> import torch
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()))
        >>> outputs, labels = handler.get_layer_output((torch.rand(2, 3, 8, 8), [0, 1]), ["1"])
        >>> outputs["1"].shape, labels
        ((2, 144), array([0, 1]))
        """
        features = self.extract(data, layer_names, pooling=pooling)
        return dict(features.values), features.labels

    def extract(
        self,
        data: Any,
        layer_names: Sequence[str],
        *,
        pooling: Pooling = "flatten",
        cache_dir: str | PathLike[str] | None = None,
        cache_key: str | None = None,
        judge: Callable[[Any], None] | None = None,
    ) -> Features:
        """Extract the features of `data` at the named layers, in one pass that computes no more than they need.

        With a `cache_dir` they are kept there, and found again without a forward where the network (weights, settings
        and code), layers, pooling, preprocessing and content are the same. To know that, weights, arrays and texts are
        hashed, and files read and hashed, but not decoded: a second for about one to two gigabytes. Labels and class
        names are always those of the data now. A directory holds at most 10 GB, of which what was used least recently
        goes first; one that cannot be used, or a file that is damaged, costs a warning, and features are computed. What
        computes features has to be the same each time: code that draws random numbers in a `forward` is not found out.

        Parameters
        ----------
        data : DataLoader, Dataset, array, tensor, pair (X, y), images, folder, ...
            Rows keep its order; see the README for all kinds.
        layer_names : sequence of str
            Layers, or containers such as "layer3", which mean their last output. Where a layer returns several
            tensors, "name[1]" takes one.
        pooling : "flatten", "avg", "max", "cls", "auto" or a callable
            How an output of more than two axes becomes a row; see `pooling`.
        cache_dir : str or path, optional
            A directory of features; it is made where it is missing. Several processes may use it at once.
        cache_key : str, optional
            What to know those things by in it that cannot be known otherwise, without which nothing is kept (the log
            says so): the rows of a Dataset or DataLoader, random transforms, and transforms and poolings of your own.
            Another key where these are others is then up to you. With data of these kinds, labels are kept too.
        judge : callable, optional
            Sees the inputs of each batch before the network does, and may raise an error; of features that are kept,
            inputs of one row of the same shapes on the device "meta".

        Raises
        ------
        TypeError
            If `layer_names` is a single string, or the data is of no known kind.
        UnknownLayerError
            Listing every name that is not a layer, with the nearest ones.
        ValueError
            If there is no row, `layer_names` is empty or repeats one, `cache_dir` is no path or `cache_key` no text.
        ModelError
            If the network fails on the data: the layer that failed and the shapes are named; if several processes
            share the extraction and do not read the same data; if it is called by the transform of another one.

        Examples
        --------
        >>> import torch
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()))
        >>> handler.extract(torch.rand(2, 3, 8, 8), ["0", "1"], pooling="avg")
        Features(2 rows; 0: 4, 1: 4; no labels)
        """
        (features,) = self._extracted(data, layer_names, [pooling], cache_dir, cache_key, judge)
        return features

    def extract_poolings(
        self,
        data: Any,
        layer_names: Sequence[str],
        poolings: Sequence[Pooling],
        *,
        cache_dir: str | PathLike[str] | None = None,
        cache_key: str | None = None,
        judge: Callable[[Any], None] | None = None,
    ) -> dict[Pooling, Features]:
        """Extract the features of `data` at the named layers in several poolings, in one pass through the network.

        Each batch is read once, and no layer is computed twice; poolings that a `cache_dir` has are not computed.
        Returns what `extract` gives for each pooling, by pooling, and takes and raises what it does; TypeError too if
        `poolings` is a single one, and ValueError if it is empty or repeats one.

        >>> import torch
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()))
        >>> handler.extract_poolings(torch.rand(2, 3, 8, 8), ["1"], ["avg", "flatten"])
        {'avg': Features(2 rows; 1: 4; no labels), 'flatten': Features(2 rows; 1: 144; no labels)}
        """
        check_poolings(poolings)
        extracted = self._extracted(data, layer_names, poolings, cache_dir, cache_key, judge)
        return dict(zip(poolings, extracted, strict=True))

    @undisturbed()
    def _extracted(
        self,
        data: Any,
        layer_names: Sequence[str],
        poolings: Sequence[Pooling],
        cache_dir: str | PathLike[str] | None,
        cache_key: str | None,
        judge: Callable[[Any], None] | None,
    ) -> list[Features]:
        refuse_in_prefetching()
        with NETWORK_LOCK, teamed(self.share) as team:
            names = self._check_names(layer_names)
            check_poolings(poolings)
            check_device(self.device)
            check_cache(cache_dir, cache_key)
            data = opened(data, self.transform)
            batches = self.batches(data)
            self._engine.follow_source(batches.n_rows)
            if cache_dir is None:
                return self._computed(team, data, batches if judge is None else batches.judged(judge), names, poolings)
            cache = FeatureCache(cache_dir, cache_key, self._request(data, names), judge)
            return cache.features(
                poolings,
                lambda missing: self._computed(team, data, batches.judged(cache.judge), names, missing),
                (lambda places: places) if team is None else team.union,
            )

    def _computed(
        self, team: Team | None, data: Any, batches: Batches, names: list[str], poolings: Sequence[Pooling]
    ) -> list[Features]:
        rows_of, verbose, n_rows = self._rows_of(names, poolings), self.verbose, batches.n_rows
        if team is not None:
            kinds = [pooling if isinstance(pooling, str) else type(pooling).__name__ for pooling in poolings]
            team.check_same_on_all((names, kinds, self._engine.precision, repr(batches)))
            batches, rows_of = team.compute(batches, rows_of), attrgetter("inputs")
            verbose = verbose if team.is_main_process else False
        tracked = track(batches, description="Extracting features", total=n_rows, verbose=verbose)
        # not in inference mode, where no forward could differentiate; the traceback of an error keeps it alive
        with torch.no_grad(), batches.watched(), closing(tracked):
            return extract_features(tracked, rows_of, names, n_rows, named_classes(data), len(poolings))

    def _request(self, data: Any, names: list[str]) -> Request:
        """Return all that the features of `data` depend on, but the pooling."""
        options = (self._engine.precision, self.device.type, str(self.batch_size), repr(self._input_names))
        return Request(data, self._engine.network, names, self.transform, options)

    @undisturbed()
    def output_shapes(self, inputs: Any) -> dict[str, tuple[int, ...]]:
        """Return the output shape of each layer and container that returns one tensor, for the first row of `inputs`.

        They are in the order in which they are complete: a container follows its last layer. Inputs on the device
        "meta" are enough, and of others only the shapes count, where nothing in the network asks for numbers. Raises
        ModelError naming the layer that fails.

        >>> import torch
        >>> from model_handler import ModelHandler
        >>> stage = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
        >>> ModelHandler(torch.nn.Sequential(stage)).output_shapes(torch.empty(1, 3, 8, 8, device="meta"))
        {'0.0': (1, 4, 6, 6), '0.1': (1, 4, 6, 6), '0': (1, 4, 6, 6)}
        """
        with NETWORK_LOCK:
            self._engine.follow_source()
            found = self._engine.profile(example_tensors(inputs)).shapes
            return {name: found[name] for name in self._engine.backend.in_order(found)}

    def batches(self, data: Any) -> Batches:
        """Read any data in the batches that `extract` reads, which takes them in place of the data; see `as_batches`.

        Texts come sorted by length; each batch has the `places` of its rows.

        >>> import numpy as np
        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> batches = ModelHandler(nn.Identity(), batch_size=4).batches(np.ones((6, 3)))
        >>> [tuple(batch.inputs.shape) for batch in batches]
        [(4, 3), (2, 3)]
        """
        reading = reading_options(self.transform, self.batch_size, self.num_workers, self.device)
        return as_batches(data, by_length=True, **reading)

    @undisturbed()
    def visualize_net(
        self, path: str | PathLike[str] | None = None, depth: int | None = 1, unfold: str | Sequence[str] = ()
    ) -> Drawing:
        """Draw the network from top to bottom, with what was added, dropped and frozen since it was given.

        It shows itself in a notebook, has its graphviz `source`, and `save`s itself. Without the `dot` program of
        graphviz it is drawn all the same.

        Parameters
        ----------
        path : str or path, optional
            Where to save it too: .svg, .dot or .gv; .png and .pdf where `dot` is installed.
        depth : int or None
            Containers this deep are folded into one box: at 1 "layer1" is, at 2 "layer1.0". None draws every layer.
        unfold : str or sequence of str
            Containers to draw open all the same, with what is directly in them.

        Raises
        ------
        UnknownLayerError
            For a name in `unfold` that the network does not have.
        ModelError
            For a name in `unfold` with nothing in it, or a depth that is none.
        ValueError
            For a suffix that cannot be written.

        Examples
        --------
        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        >>> drawing = handler.drop_layer_top().visualize_net("network.svg")
        >>> drawing, "DROPPED" in drawing.source
        (Drawing(Sequential, 5 boxes), True)
        """
        target = None if path is None else check_path(path)
        with NETWORK_LOCK:
            self._engine.follow_source()
            opened = [unfold] if isinstance(unfold, str) else list(unfold)
            now = replace(self._state, shapes=self._known_shapes())
            drawing = draw(self.name, [*self._states[:-1], now], depth, opened)
        if target is not None:
            drawing.save(target)
        return drawing

    def __repr__(self) -> str:
        kind = "traced" if isinstance(self._engine.backend, TracedBackend) else "by hooks"
        n_layers = len(self.layer_names)
        return f"ModelHandler({self.name}, {n_layers} layer{'s' if n_layers != 1 else ''}, {kind})"

    def _rows_of(self, names: list[str], poolings: Sequence[Pooling]) -> Callable[[Batch], Iterator[list[Tensor]]]:
        wanted = [Wanted(name, pooling) for pooling in poolings for name in names]
        return lambda batch: self._engine.rows(batch.inputs, batch.n_rows, wanted)

    def _check_names(self, layer_names: Sequence[str]) -> list[str]:
        if isinstance(layer_names, str) or not isinstance(layer_names, Sequence):
            raise TypeError(f"layer_names must be a list of names, got {layer_names!r}; write [{layer_names!r}]")
        if not layer_names:
            raise ValueError(f"layer_names is empty; name at least one of {self.layer_names[-3:]}")
        if repeated := sorted({name for name in layer_names if list(layer_names).count(name) > 1}):
            raise ValueError(f"layer_names has {repeated} more than once")
        self._engine.refuse_unknown(layer_names)
        return list(layer_names)
