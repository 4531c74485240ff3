import torch
from torch import nn

from model_handler import ModelHandler, Source
from repurpose.neural_network.classifier import before_classifier, classifier_path, ended_at
from tests.repurpose.neural_network.toast.networks import images, tiny_bert, tiny_resnet


def test_what_the_classifier_reads_has_a_name_in_a_copy_with_the_same_preprocessing() -> None:
    network, (X, _), transform = tiny_resnet(), images(), torch.nn.Identity()
    handler = ModelHandler(Source(network, transform, "mine"), X)
    named = before_classifier(handler)
    assert named is not None
    source, end = named
    assert (source.transform, source.name) == (transform, "mine")
    read: list[torch.Tensor] = []
    source.network.get_submodule(end).register_forward_hook(lambda module, inputs, output: read.append(output))
    with torch.no_grad():
        assert torch.equal(source.network(X), network(X))
        assert torch.equal(network.fc(read[0]), network(X))  # type: ignore[operator]
    assert isinstance(network.fc, nn.Linear)


def test_without_a_classifier_there_is_nothing_to_name() -> None:
    handler = ModelHandler(tiny_bert(add_pooling_layer=False), {"input_ids": torch.ones(2, 4).long()})
    assert before_classifier(handler) is None


def test_a_network_that_is_its_classifier_alone_has_nothing_before_it() -> None:
    handler = ModelHandler(nn.Linear(4, 3), torch.ones(2, 4))
    assert classifier_path(handler) is None
    assert before_classifier(handler) is None


def test_a_network_ends_at_the_layer_or_before_its_classifier() -> None:
    torch.manual_seed(0)
    network, X = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), torch.rand(2, 4)
    for layer, expected in (("0", network[0](X)), (None, network[:2](X))):
        module = ended_at(layer, ModelHandler(network, X), X).get_module()
        assert torch.equal(module(X), expected)
