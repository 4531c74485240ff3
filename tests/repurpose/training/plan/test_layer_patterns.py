from torch import nn

from repurpose.training.plan.layer_patterns import LayerPatterns, label_of


def patterns() -> LayerPatterns:
    network = nn.Sequential()
    network.add_module("body", nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    network.add_module("head", nn.Linear(2, 2))
    return LayerPatterns(network, new={"head.weight", "head.bias"})


def test_the_longest_path_decides_then_the_nearest_type_then_new_and_transferred_then_all() -> None:
    known, every = patterns(), ["*", "new", "transferred", nn.Sequential, nn.Linear, "body", "body.0"]
    for expected in ("body.0", "body", nn.Linear, nn.Sequential, "transferred", "*"):
        assert known.best(every, "body.0.weight") == expected
        every.remove(expected)
    assert known.best(["transferred"], "head.weight") is None
    assert known.best(["*", "new"], "head.weight") == "new"


def test_a_path_ends_at_a_dot() -> None:
    assert not patterns().match("bod", "body.0.weight")


def test_what_matches_nothing_is_named_with_what_is_near() -> None:
    assert patterns().mistakes(["new", "*", "body", nn.Linear]) == []
    (mistake,) = patterns().mistakes(["haed"])
    assert mistake.startswith("no layer, container or type of layers is called 'haed'; nearest: head")


def test_biases_and_normalisation_have_no_decay_by_default() -> None:
    known = patterns()
    decayed = [name for name in known.learning if known.has_decay_by_default(name)]
    assert decayed == ["body.0.weight", "head.weight"]
    assert [label_of(pattern) for pattern in ("body", nn.Linear)] == ["body", "Linear"]
