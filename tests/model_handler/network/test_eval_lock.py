"""A held module stays in evaluation mode, alone, until it is released."""

import copy

from torch import nn

from model_handler.network.eval_lock import hold, release


def test_a_held_module_stays_in_evaluation_alone_through_copies_until_released():
    network = nn.Sequential(nn.Sequential(nn.Dropout()), nn.Dropout())
    hold(network[0])
    for held in (network, copy.deepcopy(network)):
        held.eval().train()
        assert [part.training for part in held.modules()] == [True, False, True, True]
    release(network[0], training=False)
    assert not network[0].training
    assert all(part.training for part in network.train().modules())


class Merging(nn.Linear):
    """Counts how often it is switched to evaluation, as LoRA merges its weights there."""

    n_merged = 0

    def train(self, mode=True):
        self.n_merged += not mode
        return super().train(mode)


def test_a_train_of_its_own_is_asked_for_evaluation_alone():
    network = nn.Sequential(Merging(2, 2))
    hold(network[0])
    assert not network.train()[0].training
    assert network[0].n_merged == 2
