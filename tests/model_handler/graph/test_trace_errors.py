"""Functions that cannot be followed become operations; methods are not to blame."""

import io

import pytest
import torch
from torch import nn

from model_handler.graph.trace_errors import function_to_blame, line_to_blame
from model_handler.graph.tracing import trace
from tests.model_handler.networks import DataDependent, handle


def halved_if_large(x):
    return _halved(x) if _is_large(x) else x


def _halved(x):
    return x / 2


def _is_large(x):
    return bool(x.abs().max() > 1)


class Sized(nn.Module):
    """Its forward calls a function whose path depends on the numbers."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(halved_if_large(self.stem(x)))


def test_the_outermost_function_that_a_forward_calls_is_one_operation():
    network = Sized()
    handler = handle(network, torch.ones(2, 4))
    assert handler.layer_names == ["stem", "halved_if_large", "head"]
    for scale in (0.01, 100.0):
        x = scale * torch.ones(2, 4)
        wanted = halved_if_large(network.stem(x)).detach()
        got = torch.from_numpy(handler.extract(x, ["halved_if_large"]).values["halved_if_large"])
        torch.testing.assert_close(got, wanted)


def test_a_network_edited_around_such_a_function_is_saved_and_loaded():
    network = Sized()
    module = handle(network, torch.ones(2, 4)).truncate("halved_if_large").get_module().eval()
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    x = 100 * torch.ones(2, 4)
    assert torch.equal(loaded(x), halved_if_large(network.stem(x)))


class OddlyNamed(nn.Module):
    """Its forward does not call itself `self`."""

    def forward(this, x):
        return x if x.sum() > 0 else -x


def test_the_line_is_the_users_own_whatever_a_forward_calls_itself():
    with pytest.raises(torch.fx.proxy.TraceError) as caught:
        torch.fx.symbolic_trace(nn.Sequential(OddlyNamed()))
    assert line_to_blame(caught.value).endswith("of test_trace_errors.py: return x if x.sum() > 0 else -x)")


def test_a_method_is_not_to_blame_nor_is_a_function_without_a_name_of_its_own():
    assert blamed_in(DataDependent()) is None
    assert blamed_in(Nameless()) is None
    assert blamed_in(Sized())[0] is halved_if_large


def masked_if_large(x) -> "torch.Tensor | None":
    return x if _is_large(x) else None


def halved_as_set(x, settings):
    return x / 2 if _is_large(x) and settings else x


class Masked(Sized):
    def forward(self, x):
        return self.head(masked_if_large(self.stem(x)))


class Set(Sized):
    def forward(self, x):
        return self.head(halved_as_set(self.stem(x), object()))


def test_a_function_that_may_return_none_or_takes_more_than_values_is_not_to_blame():
    assert blamed_in(Masked()) is None
    assert blamed_in(Set()) is None


class Nameless(Sized):
    def forward(self, x):
        return (lambda x: self.head(x) if bool(x.sum() > 0) else x)(self.stem(x))


def blamed_in(network):
    try:
        torch.fx.symbolic_trace(network)
    except Exception as error:
        return function_to_blame(error)
    raise AssertionError("it can be traced")


def test_in_a_leaf_such_a_function_changes_nothing():
    assert list(trace(nn.Sequential(Sized(), nn.Linear(2, 1)), ["input"]).promoted) == ["0"]
