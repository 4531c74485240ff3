"""The parameters of `GpRepurposer` are judged here."""

from numbers import Real

import numpy as np

from repurpose.meta_model.gp.gpytorch_kernel import kernel_mistakes
from repurpose.parameters import is_one_of, is_whole

__all__ = ["parameter_mistakes"]


def parameter_mistakes(
    *,
    apply_l2_norm: object,
    kernel: object,
    max_function_evaluations: object,
    n_inducing: object,
    svgp: object,
    alpha_eps: object,
) -> list[str]:
    """Return a sentence for each parameter that cannot be used."""
    mistakes = [
        f"{name} must be True or False, got {value!r}"
        for name, value in (("apply_l2_norm", apply_l2_norm), ("svgp", svgp))
        if not isinstance(value, (bool, np.bool_))
    ]
    mistakes += kernel_mistakes(kernel)
    if not is_whole(max_function_evaluations, 1):
        mistakes.append(
            f"max_function_evaluations must be a whole number of at least 1, got {max_function_evaluations!r}"
        )
    if not (n_inducing is None or is_one_of(n_inducing, ("auto",)) or is_whole(n_inducing, 1)):
        mistakes.append(f'n_inducing must be a whole number of at least 1, "auto" or None, got {n_inducing!r}')
    if not is_one_of(alpha_eps, ("auto",)) and not _is_concentration(alpha_eps):
        mistakes.append(f'alpha_eps must be "auto" or a number above 0 and at most 1, got {alpha_eps!r}')
    return mistakes


def _is_concentration(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) <= 1
