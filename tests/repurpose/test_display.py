from sklearn.model_selection import GridSearchCV
from sklearn.utils import get_tags

from repurpose import LrRepurposer
from tests.repurpose.examples import blob_features, lr, small_network


def test_looking_at_a_repurposer_does_not_trace_its_network() -> None:
    repurposer = lr().repurpose(blob_features())
    repr(repurposer), repurposer._repr_html_(), dir(repurposer), get_tags(repurposer)
    assert "_cached_handler" not in vars(repurposer)
    assert "source_model_handler" in dir(repurposer)


def test_a_source_given_by_name_is_shown_as_its_name() -> None:
    repurposer = LrRepurposer("torchvision/resnet50", ["avgpool"])
    assert repr(repurposer) == "LrRepurposer(source_model='torchvision/resnet50', feature_layer_names=['avgpool'])"
    assert "torchvision/resnet50" in repurposer._repr_html_()


def test_a_search_around_a_repurposer_does_not_print_the_network_on_its_page() -> None:
    search = GridSearchCV(LrRepurposer(small_network(), ["2"]), {"c": [1.0]})
    assert "Linear(in_features" not in search.estimator._repr_html_()
    assert "Sequential (83 parameters)" in search._repr_html_()
