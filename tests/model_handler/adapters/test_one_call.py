"""Adapters of layers that run several times: in all calls, or in the one that is named."""

import copy

import pytest
import torch
from torch import Tensor, nn

from model_handler import ModelError
from tests.model_handler.adapters.networks import answer, family, randomise
from tests.model_handler.networks import handle, saved_and_loaded, snapshot, train_one_epoch


class Thrice(nn.Module):
    """One linear layer in three calls, behind a question about the numbers where it is to run by hooks."""

    def __init__(self, hooked: bool) -> None:
        super().__init__()
        self.body, self.head, self.hooked = nn.Linear(4, 4), nn.Linear(4, 2), hooked

    def forward(self, x: Tensor) -> Tensor:
        if self.hooked and x.sum() > 1e9:
            return x
        return self.head(self.body(torch.tanh(self.body(torch.tanh(self.body(x))))))


def by_hand(network: nn.Module, layer: nn.Module, x: Tensor, call: int | None) -> Tensor:
    weight = network.body.weight
    changed = weight + layer.lora_B @ layer.lora_A
    for number in range(3):
        used = changed if call in (None, number) else weight
        x = nn.functional.linear(torch.tanh(x) if number else x, used, network.body.bias)
    return network.head(x)


CALLS = [("body", None), ("body@1", 1), ("body@2", 2)]
each_way = pytest.mark.parametrize(
    ("name", "call", "hooked"), [(*call, hooked) for call in CALLS for hooked in (False, True)]
)


def rows() -> Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def adapted(name: str, hooked: bool) -> tuple[nn.Module, nn.Module]:
    """A network, and a copy of it with an adapter that has learned."""
    network = Thrice(hooked).eval()
    module = handle(network, rows()).add_adapters(name, rank=2).get_module().eval()
    return network, randomise(module, 0.5)


@each_way
def test_it_begins_as_the_network_was_and_is_listed_by_its_call(name: str, call: int | None, hooked: bool) -> None:
    network, x = Thrice(hooked).eval(), rows()
    before = snapshot(network)
    handler = handle(network, x).add_adapters(name, rank=2)
    assert ("by hooks" in repr(handler)) == (hooked or call is not None)
    assert [adapter.layer for adapter in handler.adapters] == [name]
    torch.testing.assert_close(answer(handler.get_module(), x), answer(network, x), rtol=0, atol=0)
    assert snapshot(network) == before


@each_way
def test_all_calls_or_the_one_that_is_named_change(name: str, call: int | None, hooked: bool) -> None:
    network, module = adapted(name, hooked)
    wanted = by_hand(network, module.body, rows(), call)
    for _ in range(2):  # calls are counted anew
        torch.testing.assert_close(module(rows()), wanted)


@each_way
def test_copies_and_files_of_it_compute_the_same(name: str, call: int | None, hooked: bool) -> None:
    network, module = adapted(name, hooked)
    wanted = by_hand(network, module.body, rows(), call)
    torch.testing.assert_close(copy.deepcopy(module)(rows()), wanted)
    torch.testing.assert_close(saved_and_loaded(module)(rows()), wanted)


@each_way
def test_features_are_those_of_the_adapted_network_whichever_are_asked_for(
    name: str, call: int | None, hooked: bool
) -> None:
    network, module = adapted(name, hooked)
    x, wanted = rows(), by_hand(network, module.body, rows(), call).detach()
    given = handle(module, x)
    features = given.extract(x, ["body", "body@1", "body@2", "head"])
    torch.testing.assert_close(torch.tensor(features.values["head"]), wanted)
    alone = given.extract(x, ["body@1"]).matrix  # which stops behind it, so that the next forward must not count on
    assert (alone == features.values["body@1"]).all()
    torch.testing.assert_close(torch.tensor(given.extract(x, ["head"]).matrix), wanted)


@each_way
def test_a_layer_on_top_leaves_it_as_it_is(name: str, call: int | None, hooked: bool) -> None:
    network, module = adapted(name, hooked)
    handler = handle(module, rows()).add_layer_top(nn.ReLU())
    torch.testing.assert_close(handler.get_module()(rows()), by_hand(network, module.body, rows(), call).relu())
    plain = handler.remove_adapters().get_module()
    torch.testing.assert_close(answer(plain, rows()), answer(network, rows()).relu())


@each_way
def test_removed_it_leaves_the_network_that_there_was(name: str, call: int | None, hooked: bool) -> None:
    network, module = adapted(name, hooked)
    module(rows())
    removed = handle(module, rows()).remove_adapters()
    torch.testing.assert_close(answer(removed.get_module(), rows()), answer(network, rows()))
    left, before = snapshot(removed.get_module())["attributes"], snapshot(network)["attributes"]
    assert {path: set(names) - {"train"} for path, names in left.items()} == {
        path: set(names) for path, names in before.items()
    }
    again = handle(network, rows()).add_adapters(name, rank=2).remove_adapters()
    assert ("traced" in repr(again)) == (not hooked)


@each_way
def test_it_is_merged_where_it_acts_in_all_calls(name: str, call: int | None, hooked: bool) -> None:
    network, module = adapted(name, hooked)
    handler = handle(module, rows())
    if call is None:
        merged = handler.merge_adapters().get_module()
        torch.testing.assert_close(merged(rows()), by_hand(network, module.body, rows(), None))
    else:
        with pytest.raises(ModelError, match="'body' acts in one call"):
            handler.merge_adapters()


def test_it_learns_from_its_own_call() -> None:
    network, x = Thrice(hooked=False), torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    module = randomise(handle(network, x).add_adapters("body@1", rank=2).get_module(), 0.5)
    got = torch.autograd.grad(module(x).square().sum(), [module.body.lora_A, module.body.lora_B])
    wanted = torch.autograd.grad(
        by_hand(network, module.body, x, 1).square().sum(), [module.body.lora_A, module.body.lora_B]
    )
    for gradient, reference in zip(got, wanted, strict=True):
        torch.testing.assert_close(gradient, reference)
    assert train_one_epoch(module, x) == {"body.lora_A", "body.lora_B"}


def test_a_call_that_is_none_is_refused() -> None:
    x = torch.ones(1, 4)
    with pytest.raises(ModelError, match="body@3"):
        handle(Thrice(hooked=False), x).add_adapters("body@3", rank=2)
    with pytest.raises(ModelError, match="'body' is called 3 times, so there is no call 'body@3'"):
        handle(Thrice(hooked=True), x).add_adapters("body@3", rank=2)
    with pytest.raises(ModelError, match="needs example inputs"):
        handle(Thrice(hooked=True)).add_adapters("body@1", rank=2)


def test_more_calls_than_there_were_are_refused() -> None:
    network, x = Thrice(hooked=False).eval(), torch.ones(1, 4)
    module = handle(network, x).add_adapters("body@1", rank=2).get_module()
    module(x)
    with pytest.raises(ModelError, match="call 1 of 3 runs more often"):
        module.body(x)


def test_blocks_that_share_their_weights_are_adapted_in_one_of_them() -> None:
    network, inputs = family("ALBERT")
    handler = handle(network, inputs)
    second = handler.blocks[1].name
    assert second.endswith("@1")
    module = handler.add_adapters(second, rank=2).get_module().eval()
    assert torch.equal(answer(module, inputs), answer(network, inputs))
    randomise(module)
    all_calls = handle(network, inputs).add_adapters(second.partition("@")[0], rank=2).get_module().eval()
    all_calls.load_state_dict(module.state_dict())
    one, every, none = (answer(each, inputs) for each in (module, all_calls, network))
    assert not torch.allclose(one, every)
    assert not torch.allclose(one, none)
