"""Repurposers keep the features that they learn from and predict by where `cache_dir` says, on this machine alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from repurpose import GpRepurposer, LrRepurposer, SvmRepurposer, load
from repurpose.domain import CoralRepurposer
from tests.repurpose.examples import blobs, small_network

X, Y = blobs()


@pytest.fixture
def forwards() -> Iterator[list[int]]:
    """How many rows each layer got, seen from outside of any network."""
    ran: list[int] = []

    def note(module: nn.Module, arguments: object, output: Any) -> None:
        if not list(module.children()):
            ran.append(len(output))

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    yield ran
    hook.remove()


@pytest.mark.parametrize("head", [LrRepurposer, SvmRepurposer, GpRepurposer])
def test_a_second_fit_and_prediction_need_no_forward_and_give_the_same(
    head: Any, tmp_path: Path, forwards: list[int]
) -> None:
    def fitted(**options: Any) -> Any:
        return head(small_network(), ["1", "3"], random_state=0, **options).fit(X, Y)

    plain, first = fitted(), fitted(cache_dir=tmp_path)
    wanted = plain.predict_label(X[::-1])
    assert first.predict_label(X[::-1]).tolist() == wanted.tolist()
    forwards.clear()
    second = fitted(cache_dir=str(tmp_path))
    assert second.predict_label(X[::-1]).tolist() == wanted.tolist()
    assert forwards == []
    assert second.row_shape_ == plain.row_shape_ == (4,)
    assert np.array_equal(second.training_features_, plain.training_features_)


def test_labels_that_were_changed_are_those_that_it_learns(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "owl"])
    for y in (Y, names[Y], (Y + 1) % 3):
        learned, plain = (
            LrRepurposer(small_network(), ["3"], c=1.0, **options).fit(X, y)
            for options in ({"cache_dir": tmp_path}, {})
        )
        assert learned.classes_.tolist() == plain.classes_.tolist()
        assert np.array_equal(learned.predict_probability(X), plain.predict_probability(X))


def test_rows_of_other_axes_are_refused_though_their_features_are_kept(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    cubes, kept = X.reshape(-1, 2, 2), {"cache_dir": tmp_path}
    LrRepurposer(network, ["1"], c=1.0, **kept).fit(cubes, Y)
    learned = LrRepurposer(network, ["1"], c=1.0, **kept).fit(X, Y)
    with pytest.raises(ValueError, match=r"rows of shape \(2, 2\), but LrRepurposer is expecting rows of shape \(4,\)"):
        learned.predict_label(cubes)


def test_where_features_are_kept_is_a_parameter_and_not_saved(tmp_path: Path) -> None:
    network = small_network()
    repurposer = LrRepurposer(network, ["3"], c=1.0, cache_dir=tmp_path / "kept", cache_key="blobs").fit(X, Y)
    copied = clone(repurposer)
    assert (copied.cache_dir, copied.get_params()["cache_key"]) == (tmp_path / "kept", "blobs")
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", network)
    assert (loaded.cache_dir, loaded.cache_key) == (None, None)
    assert load(tmp_path / "saved", network, cache_dir=tmp_path / "kept").cache_dir == tmp_path / "kept"
    assert np.array_equal(loaded.predict_label(X), repurposer.predict_label(X))
    assert str(tmp_path) not in "".join(path.read_text("latin-1") for path in (tmp_path / "saved").iterdir())


def test_methods_of_several_domains_keep_those_of_each(tmp_path: Path, forwards: list[int]) -> None:
    for _ in range(2):
        forwards.clear()
        learned = CoralRepurposer(small_network(), ["3"], random_state=0, cache_dir=tmp_path)
        learned.repurpose(X[:20], source_data=(X + 1, Y))
    assert forwards == []


def test_what_is_no_directory_is_listed_with_the_other_mistakes() -> None:
    with pytest.raises(ValueError, match=r"(?s)batch_size.*cache_dir must be the path of a directory or None, got 3"):
        LrRepurposer(small_network(), ["3"], batch_size=0, cache_dir=3).fit(X, Y)
