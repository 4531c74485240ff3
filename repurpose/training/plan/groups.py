"""Learning rates are set per group of layers: every parameter that learns is in exactly one group.

Which pattern decides for a layer is in `layer_patterns`. Layer-wise decay: Howard and Ruder (2018), arXiv:1801.06146,
with the depths of `depths`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import nn

from model_handler.errors import ModelError
from repurpose.training.plan.depths import depths_from_top
from repurpose.training.plan.layer_patterns import LayerPatterns, Pattern, label_of
from repurpose.training.plan.norm_statistics import learned_statistics
from repurpose.training.plan.optimizers import base_learning_rate, base_weight_decay
from repurpose.training.plan.parameter_groups import GroupTable, ParameterGroup
from repurpose.training.plan.plan import TrainingPlan

__all__ = ["make_groups"]

SLOWER = 0.1  # how fast transferred layers learn beside new ones, where nothing else is said


@dataclass(frozen=True)
class _Settings:
    """The settings by which a parameter learns; parameters with equal ones are a group."""

    pattern: Pattern
    depth: int
    learning_rate: float
    weight_decay: float
    from_epoch: int


def make_groups(
    module: nn.Module, plan: TrainingPlan, new: Collection[str], blocks: Collection[str] = ()
) -> GroupTable:
    """Group the parameters of `module` that require a gradient; those given a rate of 0 count as frozen.

    `new` names the reinitialised parameters. Raises ModelError listing every pattern that matches nothing, with the
    nearest names, and if nothing is left that learns.
    """
    patterns = LayerPatterns(module, new)
    _refuse_unknown_patterns(patterns, plan)
    depths = depths_from_top(module, new, blocks) if plan.layer_decay is not None else {}
    settings = _settings_by_parameter(patterns, plan, depths)
    learning = {name: setting for name, setting in settings.items() if setting.learning_rate > 0}
    _refuse_what_never_learns(patterns, plan, learning, n_parameters=len(list(module.parameters())))
    members: dict[_Settings, list[str]] = {}
    for name, setting in learning.items():
        members.setdefault(setting, []).append(name)
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    frozen += [name for name in settings if name not in learning]
    groups = tuple(
        ParameterGroup(
            label_of(setting.pattern) + (f" (depth {setting.depth})" if plan.layer_decay is not None else ""),
            setting.learning_rate,
            setting.weight_decay,
            setting.from_epoch,
            tuple(names),
            sum(sizes[name] for name in names),
        )
        for setting, names in members.items()
    )
    held = learned_statistics(module, new) if plan.norm_statistics == "source" else ()
    return GroupTable(groups, tuple(frozen), sum(sizes[name] for name in frozen), held)


def _settings_by_parameter(
    patterns: LayerPatterns, plan: TrainingPlan, depths: Mapping[str, int]
) -> dict[str, _Settings]:
    """Find the settings of all parameters that require a gradient. Raises ModelError if no pattern gives one a rate."""
    rates, starts = plan.learning_rates or _default_rates(plan), plan.epochs_of_start
    decay = base_weight_decay(plan.optimizer, plan.optimizer_params, has_l2_sp=plan.l2_sp is not None)
    settings: dict[str, _Settings] = {}  # in the order of the parameters, which is that of the groups in files
    unmatched = []
    for name in patterns.learning:
        pattern, start, depth = patterns.best(rates, name), patterns.best(starts, name), depths.get(name, 0)
        if pattern is None:
            unmatched.append(name)
            continue
        settings[name] = _Settings(
            pattern,
            depth,
            float(rates[pattern]) * (plan.layer_decay or 1.0) ** depth,
            decay if plan.decay_all or patterns.has_decay_by_default(name) else 0.0,
            0 if start is None else int(starts[start]),
        )
    if unmatched:
        listed = ", ".join(unmatched[:3]) + (", ..." if len(unmatched) > 3 else "")
        raise ModelError(
            f'learning_rates says nothing about {len(unmatched)} parameters ({listed}): add "*" for all others, or '
            "name them; a rate of 0 freezes"
        )
    return settings


def _refuse_unknown_patterns(patterns: LayerPatterns, plan: TrainingPlan) -> None:
    if mistakes := [*patterns.mistakes(plan.learning_rates or {}), *patterns.mistakes(plan.unfreeze or {})]:
        raise ModelError("\n".join(mistakes))


def _refuse_what_never_learns(
    patterns: LayerPatterns, plan: TrainingPlan, learning: Mapping[str, _Settings], *, n_parameters: int
) -> None:
    """Raise ModelError where a pattern of `unfreeze` names frozen layers alone, or nothing learns at the beginning."""
    never = [pattern for pattern in plan.unfreeze or {} if not any(patterns.match(pattern, name) for name in learning)]
    if never:
        listed = ", ".join(repr(label_of(pattern)) for pattern in never)
        raise ModelError(f"unfreeze names {listed}, which learn at a rate of 0, and so never: give them one above 0")
    if not learning:
        raise ModelError(
            f"all {n_parameters} parameters are frozen, so nothing would learn: freeze fewer layers (fixed_layers), or "
            "give some a learning rate above 0"
        )
    if all(setting.from_epoch > 0 for setting in learning.values()):
        raise ModelError("nothing would learn in the first epoch (0): every layer is to begin later; see unfreeze")


def _default_rates(plan: TrainingPlan) -> dict[Pattern, float]:
    """Give all one rate with layer-wise decay; else what is new learns faster, as in Xfer."""
    rate = base_learning_rate(plan.optimizer, plan.optimizer_params)
    return {"*": rate} if plan.layer_decay is not None else {"new": rate, "transferred": SLOWER * rate}
