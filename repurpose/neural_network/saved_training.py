"""What a file holds of a training: what was measured in each epoch, and which parameters learned how fast."""

from repurpose.persistence.values.schema import Dict, Either, Items, Nothing, Number, Object, Text, Whole
from repurpose.training.history import History
from repurpose.training.plan.parameter_groups import GroupTable, ParameterGroup

__all__ = ["GROUPS", "HISTORY"]

_NAMES = Items(Text(), kind=tuple)
HISTORY = Object(
    History,
    {"records": Items(Dict(Text())), "best_epoch": Either(Nothing(), Whole()), "ending": Text()},
)
_GROUP = Object(
    ParameterGroup,
    {
        "name": Text(),
        "learning_rate": Number(least=0),
        "weight_decay": Number(least=0),
        "from_epoch": Whole(),
        "parameters": _NAMES,
        "n_elements": Whole(),
    },
)
GROUPS = Object(
    GroupTable, {"groups": Items(_GROUP, kind=tuple), "frozen": _NAMES, "n_frozen": Whole(), "held": _NAMES}
)
