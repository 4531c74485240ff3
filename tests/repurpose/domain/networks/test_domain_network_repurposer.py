from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from model_handler import Features
from repurpose import NeuralNetworkFineTuneRepurposer, load
from repurpose.domain import DomainNetworkRepurposer
from repurpose.training import train
from tests.repurpose.domain.networks.examples import MeansRepurposer, quick, small_network, two_domains


def test_it_learns_without_a_label_of_the_target_and_answers_the_same_once_loaded(tmp_path: Any) -> None:
    source, (X, y) = two_domains()
    repurposer = quick(DomainNetworkRepurposer, num_epochs=20, learning_rates={"*": 0.03})
    assert repurposer.repurpose(X, source_data=source) is repurposer
    assert (repurposer.n_target_rows_, repurposer.n_target_labels_) == (40, 0)
    assert repurposer.source_domains_ == {"source": 24}
    assert repurposer.score(X, y) > 0.9
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=small_network())
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))


def test_its_weights_are_those_of_a_plain_loop_over_the_same_batches() -> None:
    source, (X, y) = two_domains()
    labels = [int(label) if place < 10 else None for place, label in enumerate(y)]
    options = {"optimizer": "SGD", "optimizer_params": {"lr": 0.1}, "scheduler": None, "norm_statistics": "batch"}
    repurposer = quick(DomainNetworkRepurposer, learning_rates={"*": 0.1, "new": 0.1}, **options)
    task = repurposer._prepare_task((X, np.arange(40)), source_data=source, labels=np.array(labels, object), seed=1)
    module = small_network()
    module[7] = nn.Linear(8, 3)
    for own, given in zip(module.parameters(), task.module.parameters()):
        own.data.copy_(given)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for epoch in range(2):
        for batch in task.batches.epoch(epoch):
            known = batch.targets["codes"] >= 0
            loss = cross_entropy(module(batch.inputs)[known], batch.targets["codes"][known])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    train(task)
    for own, given in zip(module.parameters(), task.module.parameters()):
        assert torch.allclose(own, given, atol=1e-5)


def test_without_labels_of_the_target_it_is_fine_tuning_on_the_source_bit_for_bit() -> None:
    source, (X, _) = two_domains()
    options = {"num_epochs": 3, "random_state": 0, "verbose": False, "batch_size": 8}
    expected = NeuralNetworkFineTuneRepurposer(small_network(), "6", **options).repurpose(source)
    found = DomainNetworkRepurposer(small_network(), **options).repurpose(X, source_data=source)
    assert np.array_equal(found.predict_probability(X), expected.predict_probability(X))
    assert found.history_.values("loss") == pytest.approx(expected.history_.values("loss"))


def test_rows_of_the_target_without_a_label_are_in_no_batch() -> None:
    source, (X, y) = two_domains()
    labels = np.array([float(label) if place < 10 else np.nan for place, label in enumerate(y)])
    for target in (Loaded(X, labels), DataLoader(Loaded(X, labels), batch_size=8)):
        task = quick(DomainNetworkRepurposer)._prepare_task(target, source_data=source, seed=1)
        batches = list(task.batches.epoch(0))
        assert all(bool((batch.targets["codes"] >= 0).all()) for batch in batches)
        n_target_rows = sum(int((~batch.targets["is_source"]).sum()) for batch in batches)
        assert n_target_rows == (10 if isinstance(target, DataLoader) else 18)  # of 5 batches, or of 8, 2 and 8 rows


class Loaded(Dataset):
    """Rows with a label each, NaN where there is none; without labels where none are given."""

    def __init__(self, X: Any, y: Any = None) -> None:
        self.X, self.y = X, y

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, row: int) -> Any:
        return self.X[row] if self.y is None else (self.X[row], self.y[row])


def base(**options: Any) -> DomainNetworkRepurposer:
    return quick(DomainNetworkRepurposer, **{"num_epochs": 1, **options})


def few_labels(y: Any, missing: Any) -> list[Any]:
    return [int(label) if place < 10 else missing for place, label in enumerate(y)]


def test_missing_labels_are_the_same_however_they_are_written() -> None:
    source, (X, y) = two_domains()
    none, nan, minus = (few_labels(y, missing) for missing in (None, float("nan"), -1))
    expected = base().repurpose(X, none, source_data=source)
    assert expected.n_target_labels_ == 10
    assert expected.class_counts_.tolist() == [12, 11, 11]
    floats = np.array(nan)
    targets = [(X, nan), (X, floats), Loaded(X, floats), DataLoader(Loaded(X, floats), 8)]
    for target in targets:
        found = base().repurpose(target, source_data=source)
        assert (found.n_target_rows_, found.n_target_labels_) == (40, 10)
        assert found.class_counts_.tolist() == [12, 11, 11]
        if not isinstance(target, DataLoader):  # which has an order of its own
            assert np.array_equal(found.predict_probability(X), expected.predict_probability(X))
    by_name = {"input": source[0], "labels": source[1]}
    found = base().repurpose({"input": X, "labels": none}, source_data=by_name)
    assert np.array_equal(found.predict_probability({"input": X}), expected.predict_probability(X))
    for target in ((X, minus), Loaded(X, np.array(minus)), DataLoader(Loaded(X, np.array(minus)), 8)):
        with pytest.warns(UserWarning, match="30 rows of the target have the label -1"):
            assert base().repurpose(target, source_data=source).n_target_labels_ == 10


def test_without_labels_every_kind_of_target_gives_the_same_result() -> None:
    source, (X, _) = two_domains()
    targets = [X, (X, None), X.numpy(), Loaded(X)]
    answers = [base().repurpose(target, source_data=source).predict_probability(X) for target in targets]
    assert all(np.array_equal(answers[0], other) for other in answers)
    loader = DataLoader(Loaded(X), batch_size=8)
    assert base().repurpose(loader, source_data=source).n_target_labels_ == 0
    assert base().repurpose(loader, source_data=DataLoader(Loaded(*source), batch_size=8)).n_target_rows_ == 40


def test_folders_are_read_labelled_and_flat(tmp_path: Any) -> None:
    (Xs, ys), (X, _) = two_domains(n_source=12, n_target=6)
    to_image = transforms.ToPILImage()
    for row, (image, label) in enumerate(zip(Xs, ys)):
        (tmp_path / "source" / "abc"[label]).mkdir(parents=True, exist_ok=True)
        to_image(image).save(tmp_path / "source" / "abc"[label] / f"{row}.png")
    (tmp_path / "target").mkdir()
    for row, image in enumerate(X):
        to_image(image.clamp(0, 1)).save(tmp_path / "target" / f"{row}.png")
    grey = transforms.Compose([transforms.Grayscale(), transforms.ToTensor()])
    repurposer = base(transform=grey).repurpose(tmp_path / "target", source_data=tmp_path / "source")
    assert repurposer.classes_.tolist() == ["a", "b", "c"]
    assert (repurposer.n_target_rows_, repurposer.n_target_labels_) == (6, 0)
    assert repurposer.predict_label(tmp_path / "target").shape == (6,)


def test_labels_may_be_text() -> None:
    (Xs, ys), (X, y) = two_domains()
    names = np.array(["pear", "apple", "fig"])
    labels = [str(names[label]) if place < 10 else None for place, label in enumerate(y)]
    repurposer = base().repurpose(X, labels, source_data=(Xs, names[ys]))
    assert repurposer.classes_.tolist() == ["apple", "fig", "pear"]
    assert set(repurposer.predict_label(X)) <= set(names)


def test_source_rows_of_other_classes_are_left_out_of_rows_and_loaders_alike() -> None:
    (Xs, ys), (X, y) = two_domains()
    target = X[y < 2], y[y < 2]
    for source in ((Xs, ys), DataLoader(Loaded(Xs, ys), batch_size=8)):
        with pytest.warns(UserWarning, match="8 of 24 source rows are left out"):
            repurposer = base().repurpose(target, source_data=source)
        assert repurposer.classes_.tolist() == [0, 1]
        assert repurposer.source_domains_ == {"source": 16}


def test_several_source_domains_are_told_apart() -> None:
    (Xs, ys), (X, _) = two_domains()
    sources = {"near": (Xs[:18], ys[:18]), "far": Loaded(Xs[18:], ys[18:])}
    repurposer = base(validation_fraction=0.4).repurpose(X, source_data=sources)
    assert repurposer.source_domains_ == {"near": 18, "far": 6}
    assert repurposer.history_[0]["validation_domain"] == "source"


def test_epochs_are_judged_by_labelled_rows_of_the_target_else_of_the_source(caplog: Any) -> None:
    source, (X, y) = two_domains()
    labels = few_labels(y, None)
    cases = [((X, labels), {"validation_fraction": 0.5}, {}, "target"), (X, {"validation_fraction": 0.5}, {}, "source")]
    cases.append((X, {}, {"validation_data": (X[:9], y[:9])}, "target"))
    for target, options, more, domain in cases:
        caplog.clear()
        with caplog.at_level("INFO"):
            repurposer = base(num_epochs=2, early_stopping=1, **options).repurpose(target, source_data=source, **more)
        assert repurposer.history_.values("validation_domain")[0] == domain
        assert f"labelled rows of the {domain}" in caplog.text
        assert f"validation_domain {domain}" in repr(repurposer.history_)
        labels_of_lines = [line.get_label() for line in repurposer.history_.plot().lines]
        assert f"validation on the {domain}" in labels_of_lines
    task = base(validation_fraction=0.5)._prepare_task((X, np.arange(40)), source_data=source, labels=np.array(labels, object), seed=3)  # noqa: E501 # fmt: skip
    held = {int(row) for batch in task.evaluation.batches.epoch(0) for row in batch.rows}
    assert sorted([*held, *task.batches.streams["target"].rows]) == list(range(10))
    assert all(bool((batch.targets >= 0).all()) for batch in task.evaluation.batches.epoch(0))


def test_a_checkpoint_is_resumed_bit_for_bit_with_loaders_of_both_domains(tmp_path: Any) -> None:
    source, (X, _) = two_domains()

    def train(**options: Any) -> Any:
        def loader(*arrays: Any) -> DataLoader:
            generator = torch.Generator().manual_seed(7)
            return DataLoader(Loaded(*arrays), batch_size=8, shuffle=True, generator=generator)

        options = {"num_epochs": 4, "ema": 0.5, **options}
        return quick(MeansRepurposer, **options).repurpose(loader(X), source_data=loader(*source))

    def stop(state: Any, record: Any) -> None:
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    whole = train()
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint_dir=tmp_path, callbacks=[stop])
    resumed = train(checkpoint_dir=tmp_path)
    assert [record["loss"] for record in resumed.history_] == [record["loss"] for record in whole.history_]
    own, other = whole.target_model_.state_dict(), resumed.target_model_.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)
    with pytest.raises(ValueError, match=r"adaptation_weight: 1.0 in the checkpoint, 0.5 now"):
        train(checkpoint_dir=tmp_path, adaptation_weight=0.5)


def test_members_of_an_ensemble_are_trained_on_other_orders() -> None:
    source, (X, _) = two_domains()
    repurposer = quick(MeansRepurposer, num_members=2).repurpose(X, source_data=source)
    assert repurposer.predict_uncertainty(X).epistemic is not None
    losses = [history[0]["loss"] for history in repurposer.member_histories_]
    assert losses[0] != losses[1]


def test_classes_are_weighed_by_the_labelled_rows_of_both_domains() -> None:
    source, (X, _) = two_domains()
    labels = np.array([0] * 6 + [None] * 34, object)
    task = base(class_weight="balanced")._prepare_task((X, np.arange(40)), source_data=source, labels=labels, seed=3)
    weights = np.array([30 / (3 * n) for n in (14, 8, 8)])
    batch = next(task.batches.epoch(0))
    known = batch.targets["codes"] >= 0
    codes = batch.targets["codes"][known]
    assert task.objective.weight(batch) == pytest.approx(weights[codes].sum())
    task.module.eval()
    expected = cross_entropy(task.module(batch.inputs)[known], codes, weight=torch.tensor(weights, dtype=torch.float32))
    assert torch.allclose(task.objective.loss(task.module, batch.inputs, batch.targets), expected)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_is_refused_with_the_reason(name: str) -> None:
    source, (X, _) = two_domains()
    with pytest.raises(ValueError, match=f"{name}=0.2 does not go with two domains"):
        base(**{name: 0.2}).repurpose(X, source_data=source)


def test_groups_and_rates_are_found_with_the_source_and_nothing_changes() -> None:
    source, (X, _) = two_domains()
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(Loaded(*source), batch_size=8, shuffle=True, generator=generator)
    state = generator.get_state()
    repurposer = quick(MeansRepurposer)
    table = repurposer.parameter_groups(X, source_data=loader)
    assert {group.name for group in table} == {"new", "transferred"}
    search = repurposer.find_learning_rate(X, source_data={"a": loader}, lowest=1e-4, highest=0.1, n_steps=12)
    assert len(search.losses) == 12
    assert not hasattr(repurposer, "classes_")
    assert torch.equal(generator.get_state(), state)
    assert str(repurposer.repurpose(X, source_data=loader).parameter_groups()) == str(table)


@pytest.mark.parametrize("n_source", [24, 40])  # scikit-learn cuts what has as many rows as the target
def test_a_search_splits_the_target_and_keeps_the_source_whole(n_source: int) -> None:
    (Xs, ys), (X, y) = two_domains(n_source=n_source)
    search = GridSearchCV(base(), {"label_smoothing": [0.0, 0.1]}, cv=2)
    search.fit(X.numpy(), y.numpy(), source_data=(Xs.numpy(), ys.numpy()))
    assert search.best_estimator_.source_domains_ == {"source": n_source}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_last_batch_of_one_row_is_no_matter_for_batch_norm() -> None:
    source, (X, _) = two_domains(n_source=9, n_target=17)
    repurposer = quick(MeansRepurposer, norm_statistics="batch").repurpose(X, source_data=source)
    assert np.isfinite(repurposer.predict_probability(X)).all()
    one_by_one = quick(DomainNetworkRepurposer, norm_statistics="batch", batch_size=1).repurpose(X, source_data=source)
    assert np.isfinite(one_by_one.predict_probability(X)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_data": None}, r"DomainNetworkRepurposer needs source_data.*source_data=\(X, y\)"),
        ({"source_data": (torch.rand(6, 1, 5, 5), [0, 1, 2] * 2)}, r"\(1, 5, 5\), those .* of shape \(1, 6, 6\)"),
        ({"source_data": (torch.zeros(6, 1, 6, 6).long(), [0, 1, 2] * 2)}, r"are int64 of shape \(1, 6, 6\), those"),
        ({"source_data": (torch.rand(6, 1, 6, 6), None)}, "source_data 'source' requires labels"),
        ({"source_data": torch.rand(6, 1, 6, 6)}, "source_data 'source' requires labels"),
        ({"y": [7, 8] * 20}, "classes of the domains do not meet: the source has 0, 1, 2, the target 7, 8"),
        ({"y": ["a", "b"] * 20}, "labels of the domains are of different kinds"),
        ({"data": torch.rand(1, 1, 6, 6)}, "the domain 'target' has 1 row"),
        ({"data": torch.rand(1, 1, 6, 6), "y": [1]}, "the domain 'target' has 1 row"),
        ({"source_data": (torch.rand(1, 1, 6, 6), [0])}, "the domain 'source' has 1 row"),
        ({"data": Features({"0": np.ones((4, 3))})}, "trains a network, which takes inputs"),
        ({"source_data": Features({"0": np.ones((4, 3))}, [0, 1, 0, 1])}, "trains a network, which takes inputs"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_refused_and_nothing_is_changed(change: dict[str, Any], message: str) -> None:
    source, (X, _) = two_domains()
    repurposer = base()
    with pytest.raises((ValueError, TypeError), match=message):
        repurposer.repurpose(**{"data": X, "source_data": source, **change})
    assert not hasattr(repurposer, "classes_")


def test_tables_with_other_columns_are_refused() -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(8, 2)), columns=["a", "b"])
    with pytest.raises(ValueError, match=r"the columns of source_data 'source' are b, a, those of the target a, b"):
        DomainNetworkRepurposer(nn.Sequential(nn.Linear(2, 3))).repurpose(X, source_data=(X[["b", "a"]], [0, 1] * 4))


def test_a_dataset_is_kept_whole_in_a_dict_and_refused_where_a_search_cut_it() -> None:
    source, (X, y) = two_domains(n_source=40)
    search = GridSearchCV(base(), {"label_smoothing": [0.0]}, cv=2, error_score="raise")
    search.fit(X.numpy(), y.numpy(), source_data={"source": Loaded(*source)})
    assert search.best_estimator_.source_domains_ == {"source": 40}
    with pytest.raises(ValueError, match="which they keep whole"):
        search.fit(X.numpy(), y.numpy(), source_data=Loaded(*source))


def test_classes_have_the_names_of_the_source_where_the_target_has_none() -> None:
    source, (X, _) = two_domains()
    named = Loaded(*source)
    named.classes = ["pear", "apple", "fig"]
    repurposer = base().repurpose(X, source_data=named)
    assert repurposer.class_names_.tolist() == ["pear", "apple", "fig"]
