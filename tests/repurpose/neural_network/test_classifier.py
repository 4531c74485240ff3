import torch
from torch import nn

from model_handler import ModelHandler
from repurpose.neural_network.classifier import before_classifier, classifier_of
from tests.repurpose.neural_network.toast.networks import images, tiny_bert, tiny_resnet


def test_the_classifier_is_the_last_linear_layer_and_what_it_reads_has_a_name() -> None:
    network, (X, _) = tiny_resnet(), images()
    handler = ModelHandler(network, X)
    assert classifier_of(handler) == "fc"
    named, end = before_classifier(handler)
    read: list[torch.Tensor] = []
    named.get_submodule(str(end)).register_forward_hook(lambda module, inputs, output: read.append(output))
    with torch.no_grad():
        assert torch.equal(named(X), network(X))
        assert torch.equal(network.fc(read[0]), network(X))  # type: ignore[operator]
    assert isinstance(network.fc, nn.Linear)


def test_linear_layers_inside_blocks_are_no_classifiers() -> None:
    ids = torch.ones(2, 4).long()
    handler = ModelHandler(tiny_bert(add_pooling_layer=False), {"input_ids": ids})
    assert classifier_of(handler) is None


def test_without_blocks_the_last_linear_layer_counts() -> None:
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Softmax(1))
    assert classifier_of(ModelHandler(network, torch.rand(2, 4))) == "2"
