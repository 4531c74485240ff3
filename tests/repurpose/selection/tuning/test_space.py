import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer, SvmRepurposer
from repurpose.selection.tuning.space import judged_space, with_parameters
from tests.repurpose.selection.tuning.heads import CentreRepurposer, small_network


@pytest.fixture
def fine_tuned() -> NeuralNetworkFineTuneRepurposer:
    return NeuralNetworkFineTuneRepurposer(small_network(), "1")


def test_values_become_distributions_by_their_types(fine_tuned: NeuralNetworkFineTuneRepurposer) -> None:
    space = {
        "num_epochs": (1, 9),
        "batch_size": (4, 64, "log"),
        "label_smoothing": (0, 0.5),
        "ema": (0.5, 0.9, "log"),
        "optimizer": ["SGD", "AdamW"],
        "mixup": FloatDistribution(0.0, 1.0, step=0.25),
        "cutmix": CategoricalDistribution([0.0, 1.0]),
    }
    assert judged_space(space, fine_tuned).distributions == {
        "num_epochs": IntDistribution(1, 9),
        "batch_size": IntDistribution(4, 64, log=True),
        "label_smoothing": FloatDistribution(0.0, 0.5),
        "ema": FloatDistribution(0.5, 0.9, log=True),
        "optimizer": CategoricalDistribution(["SGD", "AdamW"]),
        "mixup": FloatDistribution(0.0, 1.0, step=0.25),
        "cutmix": CategoricalDistribution([0.0, 1.0]),
    }


def test_choices_that_a_file_cannot_hold_are_drawn_by_labels() -> None:
    choices = [["0"], ["0", "1"], None, "auto"]
    space = judged_space({"feature_layer_names": choices, "pooling": ["avg", len]}, LrRepurposer(small_network()))
    labels = space.distributions["feature_layer_names"].choices
    assert labels == ("['0']", "['0', '1']", None, "auto")
    assert [space.parameters({"feature_layer_names": label})["feature_layer_names"] for label in labels] == choices
    assert space.parameters({"pooling": "builtins.len"}) == {"pooling": len}


def test_all_mistakes_are_listed_at_once_with_the_nearest_names() -> None:
    space = {"poolin": ["avg"], "c": (0, 10, "log"), "precision": [], "feature_layer_names": [["0"], ["0"]], 3: [1]}
    with pytest.raises(ValueError, match="no parameter 'poolin'") as raised:
        judged_space(space, LrRepurposer(small_network()))
    lines = str(raised.value).splitlines()
    assert len(lines) == 5
    assert "(nearest: pooling" in lines[0]
    assert "low end must be above 0" in lines[1]
    assert "empty" in lines[2]
    assert "more than once: ['0']" in lines[3]
    assert "named by text, got 3" in lines[4]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((10, 1), "no range"),
        ((1.0, float("nan")), "finite"),
        ((1.0, float("inf")), "finite"),
        ((True, False), "numbers"),
        (("avg", "max"), r"write \['avg', 'max'\]"),
        ((1, 2, 3), r"write \[1, 2, 3\]"),
        ((), "a range is"),
        ("avg", "choices are a list"),
        (0.1, "choices are a list"),
        ([1.0, float("nan")], "finite"),
    ],
)
def test_what_is_no_range_and_no_list_is_refused(values: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        judged_space({"sharpness": values}, CentreRepurposer(small_network()))


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"c": (-1.0, 1.0)}, "c must be"),
        ({"pooling": ["avg", "average"]}, "'average'"),
        ({"feature_layer_names": ["avgpool"]}, "must be a list of layer names"),
    ],
)
def test_values_that_the_repurposer_refuses_are_impossible(space: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        judged_space(space, SvmRepurposer(small_network()) if "c" not in space else LrRepurposer(small_network()))


@pytest.mark.parametrize("space", [[], None, {}])
def test_a_space_is_a_dict_that_names_something(space: object) -> None:
    with pytest.raises((TypeError, ValueError), match="'c': "):
        judged_space(space, LrRepurposer(small_network()))


def test_what_a_tuning_settles_itself_is_not_tuned(fine_tuned: NeuralNetworkFineTuneRepurposer) -> None:
    with pytest.raises(ValueError, match="same held-out rows"):
        judged_space({"validation_fraction": (0.1, 0.2)}, fine_tuned)


def test_an_entry_of_a_dict_is_named_behind_two_underscores(fine_tuned: NeuralNetworkFineTuneRepurposer) -> None:
    fine_tuned.set_params(optimizer_params={"momentum": 0.9})
    space = judged_space({"optimizer_params__learning_rate": (1e-3, 1.0)}, fine_tuned)
    changed = with_parameters(fine_tuned, space.parameters({"optimizer_params__learning_rate": 0.5}))
    assert changed.optimizer_params == {"momentum": 0.9, "learning_rate": 0.5}
    assert fine_tuned.optimizer_params == {"momentum": 0.9}
    with pytest.raises(ValueError, match="entry of batch_size, which is no dict"):
        judged_space({"batch_size__x": (1, 2)}, fine_tuned)


def test_functions_and_networks_that_look_alike_are_told_apart() -> None:
    transforms, networks = [lambda image: image, lambda image: -image], [small_network(), small_network()]
    space = judged_space({"transform": transforms, "source_model": networks}, LrRepurposer(small_network()))
    assert len(space.distributions["transform"].choices) == 2
    assert space.distributions["source_model"].choices == (
        "Sequential (69 parameters)",
        "Sequential (69 parameters) (1)",
    )
    with pytest.raises(ValueError, match="more than once"):
        judged_space({"transform": transforms[:1] * 2}, LrRepurposer(small_network()))
