"""Conformance: what `ModelHandler` promises for every network, checked on one network against the network itself.

`check` runs in the tests and in the sweep. Each promise has a function that raises `Broken`; all are tried, so that one
broken promise does not hide the next. References come from forward hooks on a copy of the network and from plain calls,
never from the library.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.coverage.comparing import changed_marks, checksums, difference, fingerprint
from benchmarks.coverage.observing import Seen, doubled, flat, hooked, run, run_in_training, watched
from model_handler import ModelHandler, UntraceableModelError

__all__ = ["Broken", "Verdict", "check", "settle"]

TOLERANCE = 1e-5
"""Largest difference of a feature, as a part of the layer's largest value."""

N_LAYERS = 10
HEAD = "new_head"


class Broken(Exception):
    """A promise that a network breaks, and how."""


@dataclass
class Verdict:
    """What was found for one network: `broken` gives each promise that does not hold the reason.

    `untraceable` says where tracing failed, `compared` which layers were compared with hooks, `cut` where the network
    was cut.
    """

    backend: str = ""
    untraceable: str = ""
    n_layers: int = 0
    compared: tuple[str, ...] = ()
    cut: str = ""
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.broken


def settle(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give `network`, in place, weights and statistics that show a mistake: none is zero, one or alike throughout."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float32).to(tensor.dtype)

    with torch.no_grad():
        for name, tensor in network.named_buffers():
            if name.endswith("running_mean"):
                tensor.copy_(0.1 * noise(tensor))
            elif name.endswith("running_var"):
                tensor.copy_(1 + 0.3 * noise(tensor).clamp(-2, 2))
        for parameter in network.parameters():
            if parameter.is_floating_point() and bool((parameter == parameter.flatten()[:1].squeeze()).all()):
                parameter.add_(0.1 * noise(parameter))
    return network


def check(network: nn.Module, inputs: Any, other_inputs: Any) -> Verdict:
    """Try every promise on `network`; `inputs` and `other_inputs` are two batches of at least two rows."""
    verdict = Verdict()
    before = fingerprint(network)
    subject = _Subject(network, inputs, other_inputs, verdict)
    promises: tuple[Callable[[], None], ...] = (
        subject.names_are_unique,
        subject.features_are_those_of_a_hook,
        subject.without_edits_nothing_changes,
        subject.a_new_head_takes_what_the_old_one_took,
        subject.training_changes_the_head_and_one_norm_alone,
        subject.other_edits_need_a_graph,
    )
    try:
        subject.look()
    except Exception as error:
        verdict.broken["handler"] = _said(error)
        promises = ()
    for promise in promises:
        try:
            promise()
        except Exception as error:
            verdict.broken[promise.__name__] = _said(error)
    if changed := changed_marks(before, fingerprint(network)):
        verdict.broken["the_network_is_untouched"] = f"changed: {changed[:5]}"
    return verdict


class _Subject:
    """One network under test, with what its promises share: the handler, a copy as reference, the edited network."""

    def __init__(self, network: nn.Module, inputs: Any, other_inputs: Any, verdict: Verdict) -> None:
        self.network, self.inputs, self.other_inputs, self.verdict = network, inputs, other_inputs, verdict
        self.reference = copy.deepcopy(network).eval()
        self.edited: nn.Module | None = None

    def look(self) -> None:
        """Make the handler: the promises before anything is asked of it."""
        self.handler = ModelHandler(self.network, self.inputs, device="cpu", verbose=False)
        self.traced = "by hooks" not in repr(self.handler)
        self.verdict.backend = "traced" if self.traced else "by hooks"
        self.verdict.n_layers = len(self.handler.layer_names)
        self.shapes = {layer.name: layer.output_shape for layer in self.handler.layers}

    def names_are_unique(self) -> None:
        names = self.handler.layer_names
        if repeated := {name for name in names if names.count(name) > 1}:
            raise Broken(f"repeated: {sorted(repeated)[:5]}")
        modules = dict(self.network.named_modules(remove_duplicate=False))
        for name in names:
            kind = self.handler.get_layer_type(name)
            if name in modules and kind != type(modules[name]).__name__:
                raise Broken(f"{name!r} is said to be {kind}, and is a {type(modules[name]).__name__}")

    def features_are_those_of_a_hook(self) -> None:
        """Ten modules, as many operations and a few containers, spread evenly over the network."""
        names = self.handler.layer_names
        modules = dict(self.network.named_modules(remove_duplicate=False))
        stems = {name: name.partition("@")[0] for name in names}
        seen = watched(self.reference, self.inputs, {stem for stem in stems.values() if stem not in modules})
        n_rows = len(next(iter(flat(self.inputs))))
        called = [name for name in names if _has_rows(seen.calls.get(name), n_rows)]
        whole = {stem for stem, values in seen.operations.items() if all(_has_rows(value, n_rows) for value in values)}
        operations = [name for name in names if stems[name] in whole]
        containers = [name for name, value in seen.containers.items() if name not in stems and _has_rows(value, n_rows)]
        if not called:
            raise Broken(f"a hook saw none of the layers {names[:5]}")
        chosen = [*_spread(called, N_LAYERS), *_spread(operations, N_LAYERS), *_spread(containers, 3)]
        self.verdict.compared = tuple(chosen)
        for name, least in self._distances(chosen, seen, self.inputs, self.handler).items():
            if least > TOLERANCE and (least := self._distance_in_double(name, set(seen.operations))) > TOLERANCE:
                raise Broken(f"{name!r} differs from a hook by {least:.2g} of its largest value")

    def _distances(self, names: list[str], seen: Seen, inputs: Any, handler: ModelHandler) -> dict[str, float]:
        """How far each layer's features are from what was seen of it, or from the nearest repeat of an operation."""
        layers = set(handler.layer_names)
        features = handler.extract(inputs, names, pooling="flatten")
        return {
            name: min(
                difference(torch.from_numpy(features.values[name]), wanted)
                for wanted in seen.outputs(name, is_layer=name in layers)
            )
            for name in names
        }

    def _distance_in_double(self, name: str, operations: set[str]) -> float:
        """The same in double precision: networks with random weights may magnify rounding without bounds."""
        network, inputs = copy.deepcopy(self.reference).double(), doubled(self.inputs)
        handler = ModelHandler(network, inputs, device="cpu", verbose=False)
        return self._distances([name], watched(network, inputs, operations), inputs, handler)[name]

    def without_edits_nothing_changes(self) -> None:
        """`get_module` of no edit computes the same bits, in the modes that the network has."""
        module = self.handler.get_module()
        if modes(module) != modes(self.network):
            raise Broken("the modes of get_module() are not those of the network")
        _refuse_other_output(run(self.reference, self.inputs), run(module.eval(), self.inputs), "get_module()")

    def a_new_head_takes_what_the_old_one_took(self) -> None:
        """Cut what feeds the classifier, add a head: its input is that of the old one, the rest as in the source."""
        classifier, read = self._classifier()
        cut = self._layer_that_gives(read, classifier)
        if not cut:
            cut, read = self._layer_before(classifier)
        self.verdict.cut = cut
        trunk = self.handler.truncate(at=cut).get_module().eval()
        _refuse_other_output(read, run(trunk, self.inputs), f"the network cut at {cut!r}")
        self._refuse_other_keys(trunk)
        head = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
        self.edited = self.handler.add_layer_top([(HEAD, head)]).get_module()
        self._refuse_other_keys(self.edited)
        with torch.no_grad():
            wanted = self.edited.get_submodule(HEAD)(read)
        _refuse_other_output(wanted, run(self.edited.eval(), self.inputs), "the network with a new head")
        if self.traced and classifier in dict(self.edited.named_modules()):
            raise Broken(f"the old classifier {classifier!r} is still in the network")

    def training_changes_the_head_and_one_norm_alone(self) -> None:
        """One step of SGD with weight decay on a network that is frozen but for its head and one BatchNorm."""
        if self.edited is None:
            raise Broken("there is no edited network to train")
        norm = self._last_norm()
        self.handler.freeze(up_to=self.verdict.cut)
        if norm:
            self.handler.unfreeze(norm)
        network = self.handler.get_module()
        run(network.eval(), self.inputs)  # some networks fill a cache the first time
        before = checksums(network.train())
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        run_in_training(network, self.other_inputs).square().mean().backward()
        optimizer.step()
        changed = set(changed_marks(before, checksums(network)))
        wanted = {name for name in before if name.startswith((f"{HEAD}.", f"{norm}." if norm else HEAD))}
        if missing := sorted(wanted - changed):
            raise Broken(f"did not learn: {missing[:5]}")
        if surplus := sorted(changed - wanted):
            raise Broken(f"changed though frozen: {surplus[:5]} ({len(surplus)} of them)")
        if alive := [name for name, p in network.named_parameters() if p.grad is not None and name not in wanted]:
            raise Broken(f"gradients of what is frozen: {alive[:5]}")

    def other_edits_need_a_graph(self) -> None:
        """Where there is no graph, what needs one says where tracing failed and what still works."""
        if self.traced:
            return
        handler = ModelHandler(self.network, self.inputs, device="cpu", verbose=False)
        name = handler.layer_names[0]
        for edit in (
            lambda: handler.insert_after(name, nn.Identity()),
            lambda: handler.insert_before(name, nn.Identity()),
            lambda: handler.replace(name, nn.Identity()),
            lambda: handler.drop_layer_top(1),
        ):
            try:
                edit()
            except UntraceableModelError as error:
                self.verdict.untraceable = _said(error)
                if "features" not in str(error) or not any(word in str(error) for word in ("trace", "graph")):
                    raise Broken(f"the refusal does not say why and what works: {error}") from error
            else:
                raise Broken("an edit that needs a graph was done without one")

    def _classifier(self) -> tuple[str, Tensor]:
        """The last module that has a matrix of weights, and what it read."""
        modules = dict(self.network.named_modules(remove_duplicate=False))
        dense = [
            name
            for name in self.handler.layer_names
            if name in modules and any(p.ndim > 1 for p in modules[name].parameters())
        ]
        name = dense[-1]
        read: list[Tensor] = []
        with hooked(self.reference.get_submodule(name), lambda _, arguments, __: read.append(arguments[0].clone())):
            run(self.reference, self.inputs)
        return name, read[0]

    def _layer_that_gives(self, value: Tensor, reader: str) -> str:
        """The nearest layer before `reader` whose output is `value`."""
        names = self.handler.layer_names
        end = names.index(reader)
        for name in reversed(names[max(0, end - 12) : end]):
            try:
                features = self.handler.extract(self.inputs, [name], pooling="flatten")
            except ValueError:  # several tensors, or no rows
                continue
            got = torch.from_numpy(features.values[name])
            if self.shapes[name] == tuple(value.shape) and difference(got, value) <= TOLERANCE:
                return name
        return ""

    def _layer_before(self, classifier: str) -> tuple[str, Tensor]:
        """The nearest module before the classifier that returns a tensor, and what it returned: between the two is
        something that has no name, such as the first token taken out of the sequence."""
        names = self.handler.layer_names
        seen = watched(self.reference, self.inputs, set())
        name = next(
            name
            for name in reversed(names[: names.index(classifier)])
            if isinstance(seen.calls.get(name), Tensor) and seen.calls[name].ndim > 1
        )
        return name, seen.calls[name]

    def _last_norm(self) -> str:
        kept = dict(self.edited.named_modules())
        norms = [
            name
            for name in self.handler.layer_names
            if isinstance(kept.get(name), nn.modules.batchnorm._BatchNorm) and kept[name].track_running_stats
        ]
        return norms[-1] if norms else ""

    def _refuse_other_keys(self, module: nn.Module) -> None:
        own = {key: value for key, value in module.state_dict().items() if not key.startswith(f"{HEAD}.")}
        source = self.network.state_dict()
        if strange := [key for key in own if key not in source]:
            raise Broken(f"keys that the source does not have: {strange[:5]}")
        if other := [key for key, value in own.items() if not torch.equal(value, source[key])]:
            raise Broken(f"weights that are not those of the source: {other[:5]}")


def _refuse_other_output(wanted: Any, got: Any, what: str) -> None:
    pairs = list(zip(flat(wanted), flat(got)))
    if len(list(flat(wanted))) != len(list(flat(got))) or not pairs:
        raise Broken(f"{what} returns {len(list(flat(got)))} tensors in place of {len(list(flat(wanted)))}")
    for theirs, mine in pairs:
        if theirs.shape != mine.shape:
            raise Broken(f"{what} returns {tuple(mine.shape)} in place of {tuple(theirs.shape)}")
        if not torch.equal(theirs, mine):
            raise Broken(f"{what} differs by {difference(mine, theirs):.2g} of the largest value")


def modes(network: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in network.named_modules()}


def _has_rows(value: Any, n_rows: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == n_rows


def _spread(names: list[str], n: int) -> list[str]:
    """`n` of the names from the first to the last, evenly."""
    if len(names) <= n:
        return names
    return [names[round(place * (len(names) - 1) / (n - 1))] for place in range(n)]


def _said(error: Exception) -> str:
    kind = "" if isinstance(error, Broken) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())[:400]
