import numpy as np
from scipy.optimize import check_grad

from repurpose.meta_model.gp import fitting
from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.fitting import learn_kernel
from repurpose.meta_model.gp.kernel import LayerKernels, Products
from tests.repurpose.meta_model.gp.examples import SIZES, TARGETS, rows


def objective(theta: np.ndarray) -> float:
    products = Products.between(rows(), rows())
    start = LayerKernels.start(products, fitting._SHARE * (TARGETS.own - TARGETS.other) ** 2).logarithms
    kernel = LayerKernels.from_logarithms(theta)
    return 0.5 * ((theta - start) ** 2).sum() - condition(kernel.matrix(products), SIZES, TARGETS).log_evidence


def test_nothing_near_the_learned_kernel_has_more_evidence_times_prior() -> None:
    learned = learn_kernel(Products.between(rows(), rows()), SIZES, TARGETS, max_function_evaluations=100)
    best = learned.kernel.logarithms
    assert learned.n_evaluations < 100
    for direction in np.random.default_rng(0).normal(size=(10, len(best))):
        assert objective(best + 0.05 * direction) > objective(best)
    assert check_grad(objective, lambda theta: np.zeros_like(theta), best) < 0.05  # the slope there is as good as none


def test_few_evaluations_are_kept_to() -> None:
    products = Products.between(rows(), rows())
    learned = learn_kernel(products, SIZES, TARGETS, max_function_evaluations=3)
    assert learned.n_evaluations <= 5
    more = learn_kernel(products, SIZES, TARGETS, max_function_evaluations=50)
    assert objective(more.kernel.logarithms) < objective(learned.kernel.logarithms)
