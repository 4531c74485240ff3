import pytest

from repurpose import GpRepurposer, LrRepurposer
from repurpose.domain import DomainRepurposer
from repurpose.domain.heads import HEADS, describe_head, head_from_description, head_mistakes, make_head
from tests.repurpose.examples import identity_network

OPTIONS = {"device": "cpu", "verbose": False, "random_state": 4}


def test_a_head_by_name_takes_device_and_seed() -> None:
    network = identity_network()
    for name, cls in HEADS.items():
        head = make_head(name, network, OPTIONS)
        assert type(head) is cls
        assert (head.source_model, head.random_state, head.device) == (network, 4, "cpu")


def test_a_head_given_as_an_object_stays_untouched_and_its_source_is_ignored() -> None:
    own, network = identity_network(), identity_network()
    given = LrRepurposer(own, c=0.5)
    made = make_head(given, network, OPTIONS)
    assert (given.source_model, given.random_state) == (own, None)
    assert isinstance(made, LrRepurposer)
    assert (made.source_model, made.random_state, made.c) == (network, 4, 0.5)


def test_a_head_that_is_none_is_refused_with_the_nearest() -> None:
    assert "nearest: ['gp'" in head_mistakes("gpp")[0]
    assert "or a meta-model" in head_mistakes(LrRepurposer)[0]
    assert "c must be" in head_mistakes(LrRepurposer(identity_network(), c=-1.0))[0]


def test_what_a_file_holds_of_a_head_makes_it_again_and_nothing_else() -> None:
    network = identity_network()
    head = head_from_description(describe_head(GpRepurposer(identity_network())), network, [DomainRepurposer])
    assert type(head) is GpRepurposer
    assert head.source_model is network
    for cls in ("DomainRepurposer", "coral_repurposer:CoralRepurposer"):
        forged = {"class": f"repurpose.domain.{cls if ':' in cls else 'domain_repurposer:' + cls}", "parameters": {}}
        with pytest.raises(ValueError, match="no meta-model"):
            head_from_description(forged, network, [DomainRepurposer])
