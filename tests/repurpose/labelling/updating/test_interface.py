"""After rows were added or removed, every answer is that of a fit at held numbers, and removed rows are gone."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpytorch.kernels import RBFKernel, ScaleKernel
from pandas import Series
from scipy.stats import multivariate_normal
from sklearn.exceptions import NotFittedError

from model_handler import Features
from repurpose import BnnRepurposer, GpRepurposer, LaplaceRepurposer, LrRepurposer, Repurposer, SvmRepurposer, load
from repurpose.data.changed_rows import ChangedRows
from repurpose.meta_model.gp.targets import DirichletTargets
from repurpose.meta_model.gp.updating.held import refit_held
from tests.repurpose.examples import blobs, identity_network, small_network

X, Y = blobs(48, n_classes=4)
NEW = np.random.RandomState(1).normal(size=(9, 4)).astype(np.float32) * 5
NETWORK = identity_network()


def gp(**options: Any) -> GpRepurposer:
    return GpRepurposer(NETWORK, ["0"], random_state=0, max_function_evaluations=5, **options)


def answers(repurposer: Repurposer) -> list[np.ndarray]:
    uncertainty = repurposer.predict_uncertainty(NEW, n_draws=20)
    return [
        repurposer.predict_probability(NEW),
        repurposer.predict_set(NEW).members,
        repurposer.unfamiliarity_p_value(NEW),
        repurposer.unfamiliarity_p_value(NEW, method="energy"),
        repurposer.unfamiliarity(NEW),
        uncertainty.total,
        uncertainty.variance,
    ]


def held_fit(before: GpRepurposer, rows: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> GpRepurposer:
    """The repurposer that `before` is, with all heads solved anew for rows that none of them has seen."""
    classes, codes = np.unique(labels, return_inverse=True)

    def solved(head: GpRepurposer, seen: np.ndarray) -> dict[str, Any]:
        nothing, none = np.empty(0, dtype=np.int64), np.full(seen.sum(), -1)
        change = ChangedRows(rows[seen], codes[seen], None, none, nothing, None, classes, nothing, {})
        targets = DirichletTargets.of(head.alpha_eps_)
        model = refit_held(head.target_model_, change, targets, None, np.random.RandomState(0))
        return {"target_model_": model, "prior_mean_": model.mean}

    result = gp()
    vars(result).update(vars(before))
    del result._cached_detectors
    heads = [
        {**learned, **solved(before.with_learned(learned), folds != fold)}
        for fold, learned in enumerate(before.fold_heads_)
    ]
    vars(result).update(solved(before, np.ones(len(rows), dtype=bool)))
    vars(result).update(classes_=classes, class_names_=classes.astype(str), fold_heads_=heads, folds_=folds)
    vars(result).update(training_features_=rows, training_codes_=codes)
    return result


def asked(repurposer: GpRepurposer) -> GpRepurposer:
    """One that has folds, their heads and detectors."""
    answers(repurposer)
    return repurposer


@pytest.mark.parametrize("one_by_one", [False, True], ids=["at once", "one by one"])
def test_rows_and_a_new_class_are_added_as_a_fit_at_held_numbers_has_it(one_by_one: bool) -> None:
    old = np.flatnonzero(Y != 1)
    order = np.concatenate([old[:-4], np.flatnonzero(Y == 1)[:2], old[-4:]])
    before, repurposer = (asked(gp().repurpose((X[old[:-4]], Y[old[:-4]]))) for _ in range(2))
    for part in order[len(old) - 4 :][:, None] if one_by_one else [order[len(old) - 4 :]]:
        repurposer.add(X[part], Y[part])
    assert repurposer.classes_.tolist() == [0, 1, 2, 3]
    assert repurposer.update_ == "exact"
    assert repurposer.n_updates_ == (6 if one_by_one else 0)  # more than a tenth of the rows: solved anew
    assert repurposer.alpha_eps_ == before.alpha_eps_
    assert repurposer.temperature_ == before.temperature_
    folds = repurposer.folds_
    assert np.array_equal(folds[: len(old) - 4], before.folds_)
    wanted = held_fit(before, X[order], Y[order], folds)
    for found, expected in zip(answers(repurposer), answers(wanted)):
        np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=0, atol=1e-6)
    assert repurposer.prior_mean_ == pytest.approx(wanted.prior_mean_, abs=1e-6)


@pytest.mark.parametrize("out", [[5], [0, 17, 40], np.flatnonzero(Y == 2).tolist()], ids=["one", "three", "a class"])
def test_rows_and_a_class_are_removed_as_a_fit_at_held_numbers_has_it(out: list[int]) -> None:
    before, repurposer = (asked(gp().repurpose((X, Y))) for _ in range(2))
    left = np.delete(np.arange(48), out)
    assert repurposer.remove(out) is repurposer
    assert repurposer.classes_.tolist() == np.unique(Y[left]).tolist()
    wanted = held_fit(before, X[left], Y[left], before.folds_[left])
    for found, expected in zip(answers(repurposer), answers(wanted)):
        np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=0, atol=1e-6)


def test_a_class_may_stay_without_rows_and_comes_back_with_some() -> None:
    repurposer = gp().repurpose((X, Y)).remove(Y == 2, keep_classes=True)
    assert repurposer.classes_.tolist() == [0, 1, 2, 3]
    assert answers(repurposer)[0].argmax(axis=1).tolist().count(2) == 0
    assert (answers(repurposer.refresh())[0][:, 2] > 0).all()
    repurposer.add(X[Y == 2], Y[Y == 2])
    assert repurposer.score((X, Y)) > 0.9
    with pytest.raises(ValueError, match="LrRepurposer cannot keep 2 without a row; leave keep_classes out"):
        LrRepurposer(NETWORK, ["0"], c=1.0).repurpose((X, Y)).remove(Y == 2, keep_classes=True)


def test_the_solve_is_made_anew_after_a_hundred_updates() -> None:
    repurposer = gp().repurpose((X, Y))
    wanted = repurposer.predict_probability(NEW)
    for _ in range(50):
        repurposer.add(X[:1], Y[:1]).remove(48)
    assert repurposer.n_updates_ == 100
    np.testing.assert_allclose(repurposer.predict_probability(NEW), wanted, rtol=0, atol=1e-9)
    assert repurposer.remove(3).n_updates_ == 0


def test_weights_and_groups_of_new_rows_stand_beside_those_of_training() -> None:
    groups = np.arange(40) // 2
    repurposer = asked(gp().repurpose((X[:40], Y[:40]), groups=groups))
    repurposer.add(X[40:], Y[40:], sample_weight=[2, 1, 1, 0, 1, 1, 1, 1], groups=["a", "b", "a", "b", "c", "c", 3, 3])
    assert repurposer.training_weights_.tolist() == [1] * 40 + [2, 1, 1, 1, 1, 1, 1]
    assert repurposer.training_groups_[40:].tolist() == [20, 21, 20, 22, 22, 23, 23]
    for group in np.unique(repurposer.training_groups_):
        assert len(np.unique(repurposer.folds_[repurposer.training_groups_ == group])) == 1
    single = gp().repurpose((X[:40], Y[:40])).add(X[40:], Y[40:], groups=[7] * 8)
    assert single.training_groups_.tolist() == [*range(1, 41), *[0] * 8]


@pytest.mark.parametrize("options", [{"n_inducing": 8}, {"n_inducing": 8, "svgp": True}], ids=["points", "svgp"])
def test_with_inducing_points_it_is_a_new_solve_through_others_at_the_held_kernel(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repurpose.meta_model.gp.svgp._STEPS", 3)
    repurposer = gp(**options).repurpose((X[:40], Y[:40]))
    kernel = repurposer.target_model_.kernel
    repurposer.add(X[40:], Y[40:]).remove([0, 1])
    assert repurposer.update_ == "inducing points"
    assert repurposer.target_model_.kernel is kernel
    assert repurposer.n_inducing_ == len(repurposer.target_model_.weights)
    assert repurposer.score((X, Y)) > 0.75


def test_a_kernel_of_gpytorch_is_held_as_ours_is() -> None:
    from gpytorch.kernels import RBFKernel, ScaleKernel

    kernel = ScaleKernel(RBFKernel())
    kernel.outputscale = 10.0
    whole = gp(kernel=kernel).repurpose((X, Y))
    around = gp(kernel=kernel).repurpose((X, Y)).add(X[:1] + 1, Y[:1]).remove([48])
    assert around.update_ == "exact"
    np.testing.assert_allclose(around.predict_probability(NEW), whole.predict_probability(NEW), rtol=0, atol=1e-9)


def test_refreshed_it_is_what_a_new_training_with_these_rows_is() -> None:
    for make in (gp, lambda: LrRepurposer(NETWORK, ["0"], random_state=0, tol=1e-2)):
        repurposer = make().repurpose((X[:40], Y[:40]))
        repurposer.unfamiliarity_p_value(NEW)  # which deals folds
        repurposer.add(X[40:], Y[40:]).remove([3]).refresh()
        fresh = make().repurpose((np.delete(X, 3, axis=0), np.delete(Y, 3)))
        assert np.array_equal(repurposer.predict_probability(NEW), fresh.predict_probability(NEW))
        assert np.array_equal(repurposer.unfamiliarity_p_value(NEW), fresh.unfamiliarity_p_value(NEW))
        assert getattr(repurposer, "c_", None) == getattr(fresh, "c_", None)
        assert not hasattr(repurposer, "update_")


@pytest.mark.parametrize("n_before", [2, 3], ids=["two classes become three", "three become four"])
@pytest.mark.parametrize("make", [LrRepurposer, LaplaceRepurposer])
def test_logistic_regression_starts_warm_and_ends_where_a_fit_at_the_same_c_does(
    make: type[LrRepurposer], n_before: int
) -> None:
    known, wanted = n_before > Y, n_before + 1 > Y
    order = np.concatenate([np.flatnonzero(known), np.flatnonzero(wanted & ~known)])
    repurposer = make(NETWORK, ["0"], c=1.0, tol=1e-7).repurpose((X[known], Y[known]))
    repurposer.predict_set(NEW)
    repurposer.add(X[order[known.sum() :]], Y[order[known.sum() :]])
    assert repurposer.update_ == "warm start"
    assert not repurposer.target_model_.warm_start
    fresh = make(NETWORK, ["0"], c=1.0, tol=1e-7).repurpose((X[order], Y[order]))
    np.testing.assert_allclose(repurposer.predict_probability(NEW), fresh.predict_probability(NEW), rtol=0, atol=1e-4)
    assert repurposer.predict_set(NEW).members.shape == (9, n_before + 1)
    repurposer.remove(repurposer.training_codes_ == 0)
    assert repurposer.predict_uncertainty(NEW).total.shape == (9,)


def test_only_heads_that_can_follow_have_the_methods() -> None:
    assert all(hasattr(gp(), name) for name in ("add", "remove", "refresh"))
    for repurposer in (SvmRepurposer(NETWORK), BnnRepurposer(NETWORK)):
        assert not any(hasattr(repurposer, name) for name in ("add", "remove", "refresh"))


def bytes_of_row(repurposer: GpRepurposer, row: np.ndarray) -> list[bytes]:
    """A row as features, as what a kernel sees, and as a detector of neighbours keeps it."""
    direction = (row.astype(np.float64) / np.linalg.norm(row.astype(np.float64))).astype(np.float32)
    seen = repurposer.target_model_.rows.transform(row[None])[0].numpy()
    return [row.tobytes(), seen.tobytes(), direction.tobytes()]


def everything(repurposer: GpRepurposer) -> bytes:
    return pickle.dumps({name: value for name, value in vars(repurposer).items() if name != "_cached_handler"})


@pytest.mark.parametrize(
    "options",
    [{}, {"n_inducing": 46}, {"kernel": ScaleKernel(RBFKernel())}],
    ids=["exact", "points that are rows", "a kernel of gpytorch"],
)
def test_removed_rows_are_gone_from_the_object_and_from_its_file(tmp_path: Path, options: dict[str, Any]) -> None:
    repurposer = asked(gp(**options).repurpose((X, Y)).conformalize(NEW, np.arange(9) % 4).conformalize(None))
    repurposer.unfamiliarity(NEW, method="knn")
    repurposer.remember_answers(X[:10])
    wanted = bytes_of_row(repurposer, X[7])
    assert all(part in everything(repurposer) for part in wanted)
    repurposer.remove([7])
    assert not any(part in everything(repurposer) for part in wanted)
    repurposer.unfamiliarity(NEW, method="knn")
    repurposer.predict_set(NEW)
    repurposer.save_repurposer(tmp_path / "saved")
    files = [path.read_bytes() for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    assert bytes_of_row(repurposer, X[8])[0] in b"".join(files)
    assert not any(part in held for part in wanted for held in (everything(repurposer), *files))


def test_saved_and_loaded_it_goes_on_where_it_was(tmp_path: Path) -> None:
    repurposer = asked(gp().repurpose((X[:40], Y[:40]))).add(X[40:41], Y[40:41]).remove(0)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=NETWORK)
    assert (loaded.n_updates_, loaded.update_) == (2, "exact")
    for one, other in zip(answers(loaded.add(X[41:42], Y[41:42])), answers(repurposer.add(X[41:42], Y[41:42]))):
        np.testing.assert_allclose(one.astype(float), other.astype(float), rtol=0, atol=1e-9)


def test_conformal_rows_and_calibration_follow_the_classes() -> None:
    repurposer = gp().repurpose((X[Y != 1], Y[Y != 1])).conformalize(X[Y != 1][:20], Y[Y != 1][:20]).calibrate()
    temperature = repurposer.calibration_.temperature
    labels = repurposer.classes_[repurposer.conformal_codes_]
    with pytest.warns(UserWarning, match="no row given to conformalize is of 1: "):
        repurposer.add(X[Y == 1], Y[Y == 1])
    assert np.array_equal(repurposer.classes_[repurposer.conformal_codes_], labels)
    assert repurposer.calibration_.temperature == temperature
    repurposer.calibrate(X, Y, method="vector")
    with (
        pytest.warns(UserWarning, match="rows given to conformalize are of a class that is gone"),
        pytest.warns(UserWarning, match="numbers of its own for each class, and is forgotten"),
    ):
        repurposer.remove(repurposer.training_codes_ == 2)
    assert set(repurposer.classes_[repurposer.conformal_codes_].tolist()) == {0, 3}
    assert not hasattr(repurposer, "calibration_")


def test_images_of_a_folder_are_removed_by_their_paths(tmp_path: Path) -> None:
    from PIL import Image
    from torch import nn

    for number, name in enumerate(("cat/1", "cat/2", "cat/3", "dog/1", "dog/2", "fox/1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (40 * number, 250 - 40 * number, 9 * number)).save(tmp_path / f"{name}.png")
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    as_array = lambda image: np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255  # noqa: E731
    repurposer = GpRepurposer(network, transform=lambda image: __import__("torch").from_numpy(as_array(image)))
    repurposer.repurpose(str(tmp_path)).remove([tmp_path / "cat" / "2.png", "fox/1.png"])
    assert repurposer.training_files_.tolist() == ["cat/1.png", "cat/3.png", "dog/1.png", "dog/2.png"]
    assert repurposer.classes_.tolist() == ["cat", "dog"]
    with pytest.raises(ValueError, match=r"no training row is of the file 'cat/2.png'; nearest: \['cat/"):
        repurposer.remove("cat/2.png")
    assert repurposer.add(str(tmp_path)).training_files_[4:].tolist()[-1] == "fox/1.png"
    with pytest.raises(ValueError, match=r"several training rows may be of 'cat/1.png': give one of .* \[0, 4\]"):
        repurposer.remove("cat/1.png")


WRONG = {
    "rows of another width": (lambda r: r.add(np.ones((2, 3), np.float32), [0, 1]), "X has 3 features"),
    "rows of other layers": (lambda r: r.add(Features({"7": X[:2]}, Y[:2])), "7"),
    "no rows": (lambda r: r.add(X[:0], Y[:0]), "no row to work on"),
    "no labels": (lambda r: r.add(X[:2]), "add needs the true labels"),
    "labels that are all None": (lambda r: r.add(X[:2], [None, None]), "2 of 2 labels are missing"),
    "a wider layer": (lambda r: r.add(Features({"0": np.ones((2, 5), np.float32)}, [0, 1])), "X has 5 features"),
    "weights of 0": (lambda r: r.add(X[:2], [0, 1], sample_weight=[0, 0]), "zero for every row"),
    "NaN": (lambda r: r.add(np.full((1, 4), np.nan, np.float32), [0]), "NaN"),
    "a missing label": (lambda r: r.add(X[:2], [0, None]), "1 of 2 labels are missing"),
    "another number of labels": (lambda r: r.add(X[:2], [0]), "2 rows and y has 1 labels"),
    "another number of groups": (lambda r: r.add(X[:2], [0, 1], groups=[1]), "2 rows and groups has 1"),
    "a negative weight": (lambda r: r.add(X[:2], [0, 1], sample_weight=[1, -1]), "-1 at row 1"),
    "an unknown position": (lambda r: r.remove([0, 48]), "no training row 48: positions are from 0 to 47"),
    "a negative position": (lambda r: r.remove(-1), "no training row -1"),
    "a row twice": (lambda r: r.remove([3, 3]), "rows names 3 more than once"),
    "none": (lambda r: r.remove([]), "rows names no row"),
    "a mask of another length": (lambda r: r.remove([True]), "1 truth values"),
    "all rows": (lambda r: r.remove(np.arange(48)), "leave rows of 0 class"),
    "all but one class": (lambda r: r.remove(Y != 1), "leave rows of 1 class"),
    "lists of several lengths": (
        lambda r: r.remove([[1], [1, 2]]),
        "positions on one axis, whole numbers from 0 to 47",
    ),
    "a column of paths": (lambda r: r.remove(Series(["cat/1.png"])), "no images of a folder"),
    "a path": (lambda r: r.remove("cat/1.png"), "no images of a folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_and_changes_nothing(case: str) -> None:
    repurposer = gp().repurpose((X, Y))
    before = dict(vars(repurposer))
    wrong, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        wrong(repurposer)
    before.pop("_cached_handler", None)
    after = {name: value for name, value in vars(repurposer).items() if name != "_cached_handler"}
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_a_row_that_is_gone_cannot_be_removed_again() -> None:
    repurposer = gp().repurpose((X, Y)).remove(47)
    with pytest.raises(ValueError, match="no training row 47: positions are from 0 to 46, and those behind a removed"):
        repurposer.remove(47)
    assert len(repurposer.training_codes_) == 47


def test_wrong_types_and_questions_before_training_are_refused() -> None:
    with pytest.raises(TypeError, match=r"rows must be positions, whole numbers from 0 to 47, got 1\.5|got np.float64"):
        gp().repurpose((X, Y)).remove([1.5])
    with pytest.raises(TypeError, match="labels must be all numbers or all text, got a mixture of int, str"):
        gp().repurpose((X, Y)).add(X[:2], ["a", "b"])
    for wrong in (lambda: gp().add(X, Y), lambda: gp().remove(0), lambda: gp().refresh()):
        with pytest.raises(NotFittedError, match=r"call repurpose\(data\) first"):
            wrong()


def test_a_failure_while_folds_are_computed_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    repurposer = asked(gp().repurpose((X, Y)))
    before = dict(vars(repurposer))
    calls = []

    def failing(*given: Any) -> None:
        calls.append(given)
        if len(calls) == 3:
            raise ValueError("the kernel matrix has values that are not finite")

    monkeypatch.setattr("repurpose.meta_model.gp.updating.following.update_held", failing)
    with pytest.raises(ValueError, match="not finite"):
        repurposer.remove(0)
    assert vars(repurposer) == before


def test_the_network_is_asked_about_new_rows_alone() -> None:
    network = small_network()
    seen = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    repurposer = GpRepurposer(network, ["3"], max_function_evaluations=3).repurpose((X, Y))
    seen.clear()
    repurposer.add(X[:2], Y[:2]).remove([1])
    assert sum(seen) <= 2


def log_evidence_of_dense(repurposer: GpRepurposer) -> float:
    """The density of the targets of all classes at the kernel and mean that there are."""
    model, targets = repurposer.target_model_, DirichletTargets.of(repurposer.alpha_eps_)
    rows = model.rows.transform(repurposer.training_features_)
    kernel, found = model.kernel.between(rows, rows).numpy(), 0.0
    counts = repurposer.training_rows().weights
    for c in range(len(repurposer.classes_)):
        own = repurposer.training_codes_ == c
        noise = np.where(own, targets.own_noise, targets.other_noise)
        wanted = np.where(own, targets.own, targets.other)
        if counts is not None:  # rows that count twice are there twice
            of_row = np.repeat(np.arange(len(own)), counts.astype(int))
            covariance, place = kernel[np.ix_(of_row, of_row)] + np.diag(noise[of_row]), wanted[of_row]
        else:
            covariance, place = kernel + np.diag(noise), wanted
        found += multivariate_normal(np.full(len(place), model.mean), covariance).logpdf(place)
    return found


@pytest.mark.parametrize("weights", [None, 1 + np.arange(48) % 2], ids=["plain", "weighted"])
def test_the_evidence_at_the_held_kernel_is_the_density_of_the_targets(weights: np.ndarray | None) -> None:
    first, last = (None, None) if weights is None else (weights[:40], weights[40:])
    repurposer = gp().repurpose((X[:40], Y[:40]), sample_weight=first)
    n_before = 40 if first is None else first.sum()
    before = log_evidence_of_dense(repurposer) / (n_before * 4)
    assert repurposer.evidence_per_row_ == pytest.approx(before, rel=1e-9)
    repurposer.add(X[40:], Y[40:], sample_weight=last).remove([3])
    n_rows = 47 if weights is None else np.delete(weights, 3).sum()
    wanted = before - log_evidence_of_dense(repurposer) / (n_rows * 4)
    assert repurposer.evidence_drop_ == pytest.approx(wanted, abs=1e-9)


def test_rows_of_another_kind_make_a_refresh_due_and_rows_of_the_same_kind_do_not(tmp_path: Path) -> None:
    repurposer = gp().repurpose((X[:40], Y[:40]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repurposer.add(X[40:44], Y[40:44])
    assert not repurposer.refresh_due_
    rng = np.random.RandomState(0)
    others, labels = rng.normal(size=(6, 4)).astype(np.float32) * 9, rng.randint(4, size=6)
    with pytest.warns(UserWarning, match=r"nats by row and class below .* for which refresh\(\) learns it anew"):
        repurposer.add(others, labels)
    assert repurposer.refresh_due_
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=NETWORK)
    assert loaded.refresh_due_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded.add(X[44:45], Y[44:45])  # told already
    assert not loaded.refresh().refresh_due_
    assert not hasattr(loaded, "evidence_drop_")


def test_classes_that_come_or_go_leave_the_fall_of_the_evidence_as_it_was() -> None:
    repurposer = gp().repurpose((X[Y != 1], Y[Y != 1]))
    repurposer.remove([0])
    fallen, before = repurposer.evidence_drop_, repurposer.evidence_per_row_
    repurposer.add(X[Y == 1], Y[Y == 1])
    assert repurposer.evidence_drop_ == fallen != 0
    now = log_evidence_of_dense(repurposer) / (47 * 4)
    assert repurposer.evidence_per_row_ == pytest.approx(now + fallen, rel=1e-9) != before
    repurposer.remove([3])
    wanted = now + fallen - log_evidence_of_dense(repurposer) / (46 * 4)
    assert repurposer.evidence_drop_ == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: LrRepurposer(NETWORK, ["0"], c=1.0), "LrRepurposer is not updated exactly: it is fitted again from"),
        (lambda: gp(n_inducing=20), "GpRepurposer is not updated exactly: inducing points are chosen again"),
    ],
    ids=["warm start", "inducing points"],
)
def test_updates_that_are_not_exact_are_told_of_once(make: Any, told: str) -> None:
    repurposer = make().repurpose((X[:40], Y[:40]))
    with pytest.warns(UserWarning, match=told):
        repurposer.add(X[40:41], Y[40:41])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repurposer.add(X[41:42], Y[41:42])
    with pytest.warns(UserWarning, match=told):
        repurposer.refresh().remove([0])


def test_a_copy_may_be_changed_while_the_first_one_answers() -> None:
    served = gp().repurpose((X, Y))
    before, learned = answers(served), dict(vars(served))
    changed = copy.copy(served).add(NEW, np.arange(9) % 5).remove([0, 1])
    assert len(changed.training_codes_) == 55
    assert vars(served).keys() >= learned.keys()
    assert all(vars(served)[name] is value for name, value in learned.items())
    for was, now in zip(before, answers(served)):
        assert np.array_equal(was, now)
