"""`GpRepurposer` classifies the features of a network by Gaussian processes, whose variance says how sure they are.

The parts are in `gp`: rows, kernel, targets, the solve shared by all classes, evidence, learning, inducing points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor, nn

from model_handler import Features, Source
from model_handler.network.ambient_modes import on_cpu
from model_handler.network.device import resolve_device
from repurpose.data.changed_rows import ChangedRows
from repurpose.data.scaling import Moments
from repurpose.meta_model.gp.calibration import choose_temperature
from repurpose.meta_model.gp.evidence import Posterior, condition
from repurpose.meta_model.gp.fitting import LearnedKernel, learn_gpytorch_kernel, learn_kernel
from repurpose.meta_model.gp.gpytorch_kernel import GpytorchKernel, KernelState
from repurpose.meta_model.gp.inducing import SparsePosterior, choose_points, condition_by_kernel
from repurpose.meta_model.gp.kernel import LayerKernels, Products
from repurpose.meta_model.gp.left_out import left_out_probabilities
from repurpose.meta_model.gp.model import VARIANCE_FACTOR, GpModel
from repurpose.meta_model.gp.parameters import parameter_mistakes
from repurpose.meta_model.gp.rows import LayerRows
from repurpose.meta_model.gp.subset import class_sizes, stratified_subset
from repurpose.meta_model.gp.svgp import learn_by_svgp
from repurpose.meta_model.gp.targets import OTHERS, DirichletTargets
from repurpose.meta_model.gp.updating.evidence_drop import REFRESH_DUE, evidence_when_learned, is_refresh_due
from repurpose.meta_model.gp.updating.following import follow_rows
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.meta_model.onnx_heads.gaussian_process import GaussianProcesses, LatentVariance
from repurpose.meta_model.sharded.blocks import TrainingBlocks
from repurpose.meta_model.sharded.gaussian_process import KernelRows, condition_on_blocks
from repurpose.meta_model.sharded.interface import N_IN_MEMORY, TrainingSample
from repurpose.persistence.values.schema import Array, Either, Maybe, Nothing, Number, Object, Table, Whole
from repurpose.seeding import rng_at_prediction
from repurpose.threads import threads_for

if TYPE_CHECKING:
    from gpytorch.kernels import Kernel

__all__ = ["GpRepurposer"]

_MAX_EXACT = 5000  # examples; beyond, the memory and time of the exact solve are no longer those of a laptop
_POINTS = 1000
_MAX_TO_LEARN_FROM = 1000  # three numbers a layer need no more


class GpRepurposer(MetaModelRepurposer):
    """Gaussian process classification on the features of some layers of a source network.

    Each class has a latent function; all share a prior mean and a kernel, which is for each layer a radial (RBF) kernel
    plus a linear one. Labels become targets of regression with known noise (Dirichlet targets: Milios et al. 2018,
    arXiv:1805.10915), so that the posterior is exact and one factorisation serves all classes. The kernel's numbers
    maximise the evidence, under log-normal priors of one e-fold about their starting values; with more than 1,000
    examples they are learned from a stratified subset of 1,000.

    A row with the `sample_weight` w has a w-th part of the noise, and counts in the evidence as w equal examples, of
    which this is the posterior (`gp.evidence` has the formula); so it does in the median distance at which learning
    starts, in the centres of inducing points, and in the log loss that chooses the temperature.

    Probabilities and doubt are two readings of one posterior. Probabilities average the softmax over the latent values
    with `variance_factor_` times their variance, since Dirichlet targets overstate it, and divide the logits by
    `temperature_`, which examples left out choose, drawn towards 1. The raw variance and the mutual information of raw
    draws are what tells unfamiliar inputs.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    feature_layer_names : list of str, "auto" or None, default=None
        The layers whose outputs are the features: by default what the last linear layer reads; ``"auto"`` chooses them.
        See `MetaModelRepurposer`. The evidence weighs them against each other.
    apply_l2_norm : bool, default=True
        Whether the centred features of each layer are brought to norm 1, row by row; otherwise each layer is divided by
        one number. Xfer's default was False.
    kernel : gpytorch.kernels.Kernel, optional
        In place of the radial and linear ones: its numbers are learned by the same evidence from where they stand,
        within their constraints and under their priors; the kernel given is not changed. It sees the layers side by
        side, each as `apply_l2_norm` has it; ``active_dims`` tells them apart. The step between the targets of a class
        and of the others is about 10, so that a `ScaleKernel` is nearly always wanted. To be given again to `load`.
    max_function_evaluations : int, default=100
        How often the evidence may be computed while the kernel is learned.
    n_inducing : int, "auto" or None, default="auto"
        About how many inducing points, at least one a class, stand for the examples where these are more. ``"auto"`` is
        exact up to 5,000 examples and takes 1,000 points, or one a class, for more; None is exact always. Xfer took 100
        points for more than 100 examples.
    svgp : bool, default=False
        Where inducing points stand for the examples, whether kernel and points are learned on from all examples, by
        gpytorch's stochastic variational GP on `device`. Meant for a GPU: on a CPU its 300 steps take minutes with some
        tens of classes, and questions that need folds take them five times.
    alpha_eps : float or "auto", default="auto"
        The concentration of the Dirichlet targets for each class that an example does not belong to. ``"auto"`` is 0.01
        divided by the number of classes, so that all of them together weigh the same against the one label.
    **kwargs
        The parameters of `MetaModelRepurposer` and `Repurposer`.

    Attributes
    ----------
    target_model_ : GpModel
        The posterior, as arrays.
    lengthscale_, radial_scale_, linear_scale_ : ndarray of shape (n_layers,)
        The learned numbers of each layer's kernels; a lengthscale is in units of the norm of a row, which is about 1.
        Absent with a `kernel` of gpytorch.
    kernel_ : LayerKernels or gpytorch.kernels.Kernel
        The same, as the kernel itself.
    prior_mean_ : float
        The constant prior mean of the latent functions.
    log_evidence_ : float
        The log evidence, in nats, of the examples that the kernel was learned from.
    n_function_evaluations_ : int
        How often the evidence was computed.
    alpha_eps_, variance_factor_, temperature_ : float
        What turns the posterior into probabilities.
    n_inducing_ : int or None
        How many inducing points there are; None for an exact posterior.
    n_updates_ : int
        After `add` and `remove`: how many of them have updated the exact solve since it was last made anew.
    evidence_per_row_ : float
        The log evidence of all rows, in nats by row and class, at the last training; absent with inducing points.
    evidence_drop_ : float
        After `add` and `remove`: by how much that of the rows of now, at the same kernel, is below it; without what
        classes that came or went have changed.
    refresh_due_ : bool
        Whether that is more than 0.02: the kernel suits the rows no longer, or labels of new ones are wrong.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import GpRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = GpRepurposer(network, ["1"]).repurpose((X, y))
    >>> repurposer.score((X, y)), repurposer.predict_uncertainty(X).variance.shape
    (1.0, (30,))
    """

    _schema: ClassVar[Table] = {
        "target_model_": Object(GpModel),
        "lengthscale_": Maybe(Array("n_layers", least=0)),
        "radial_scale_": Maybe(Array("n_layers", least=0)),
        "linear_scale_": Maybe(Array("n_layers", least=0)),
        "prior_mean_": Number(),
        "log_evidence_": Number(finite=False),
        "n_function_evaluations_": Whole(),
        "alpha_eps_": Number(above=0),
        "variance_factor_": Number(least=0),
        "temperature_": Number(above=0),
        "n_inducing_": Either(Nothing(), Whole("n_points", "n_points")),
        "n_updates_": Maybe(Whole()),
        "evidence_per_row_": Maybe(Number()),
        "evidence_drop_": Maybe(Number()),
    }

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str] | str | None = None,
        *,
        apply_l2_norm: bool = True,
        kernel: "Kernel | None" = None,
        max_function_evaluations: int = 100,
        n_inducing: int | str | None = "auto",
        svgp: bool = False,
        alpha_eps: float | str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.apply_l2_norm = apply_l2_norm
        self.kernel = kernel
        self.max_function_evaluations = max_function_evaluations
        self.n_inducing = n_inducing
        self.svgp = svgp
        self.alpha_eps = alpha_eps

    @on_cpu()
    def _train_model_from_features(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        feature_indices_per_layer: Mapping[str, np.ndarray],
        sample_weight: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> GpModel:
        rng = check_random_state(self.random_state)
        scaling = LayerRows.fit(features, feature_indices_per_layer, sample_weight, unit_norm=bool(self.apply_l2_norm))
        # by class: `shared_solve` takes the examples of a class as one block
        order = np.argsort(labels, kind="stable")
        rows, codes = scaling.transform(features[order]), labels[order]
        repeats = None if sample_weight is None else torch.from_numpy(sample_weight[order])
        self.alpha_eps_ = OTHERS / len(self.classes_) if self.alpha_eps == "auto" else float(self.alpha_eps)
        targets = DirichletTargets.of(self.alpha_eps_)
        # each evaluation of the evidence factorises an (n, n) matrix, so a part of the examples learns the kernel
        few = stratified_subset(codes, _MAX_TO_LEARN_FROM, rng)
        of_few = None if repeats is None else repeats[few]
        rows_of_few, sizes = [layer[few] for layer in rows], class_sizes(codes[few])
        with threads_for(len(few)):
            groups_of_few = None if groups is None else groups[order][few]
            learned = self._learn_kernel(rows_of_few, sizes, targets, of_few, rng, groups_of_few)
        kernel, points = learned.kernel, rows
        posterior: Posterior | SparsePosterior = learned.posterior
        n_points = self._n_points(len(codes), len(self.classes_))
        if n_points is not None:
            points = choose_points(rows, class_sizes(codes), n_points, rng, repeats)
            if self.svgp:
                start = {"mean": posterior.mean, "device": resolve_device(self.device, nn.Module())}
                options = {**start, "random_state": rng, "repeats": repeats}
                found = learn_by_svgp(kernel, points, rows, codes, targets, **options)
                kernel, points = found.kernel, found.points
            posterior = condition_by_kernel(kernel, points, rows, class_sizes(codes), targets, repeats)
        elif len(few) < len(codes):
            posterior = condition(kernel.between(rows, rows), class_sizes(codes), targets, repeats)
        self.n_inducing_ = None if n_points is None else len(points[0])
        for name, value in evidence_when_learned(posterior, targets, sample_weight).items():
            setattr(self, name, value)
        return self._as_model(scaling, kernel, points, posterior)

    @on_cpu()
    def _fit_in_parts(self, blocks: TrainingBlocks, moments: Moments, sample: TrainingSample) -> GpModel:
        rng, n_points = check_random_state(self.random_state), self._n_points(len(blocks), len(self.classes_))
        if n_points is None or self.svgp:
            name = "svgp=True" if self.svgp else "n_inducing=None"
            raise ValueError(f"{name} needs all rows at once; give features[:], or leave it at its default")
        scaling = LayerRows.of_moments(
            *moments.center_and_variance(), sample.indices_per_layer, bool(self.apply_l2_norm)
        )
        rows = KernelRows(blocks, scaling)
        self.alpha_eps_ = OTHERS / len(self.classes_) if self.alpha_eps == "auto" else float(self.alpha_eps)
        targets = DirichletTargets.of(self.alpha_eps_)
        few = rows.subset(_MAX_TO_LEARN_FROM, rng)
        with threads_for(len(few.codes)):
            kernel = self._learn_kernel(few.rows, few.sizes, targets, few.repeats, rng, few.groups).kernel
        many = rows.subset(N_IN_MEMORY, rng)
        points = choose_points(many.rows, many.sizes, n_points, rng, many.repeats)
        posterior = condition_on_blocks(kernel, points, rows, len(self.classes_), targets)
        self.n_inducing_ = len(points[0])
        return self._as_model(scaling, kernel, points, posterior)

    def _as_model(
        self,
        scaling: LayerRows,
        kernel: LayerKernels | GpytorchKernel,
        points: list[Tensor],
        posterior: Posterior | SparsePosterior,
    ) -> GpModel:
        if isinstance(kernel, LayerKernels):
            self.lengthscale_ = kernel.lengthscale
            self.radial_scale_ = kernel.radial
            self.linear_scale_ = kernel.linear
        self.prior_mean_ = posterior.mean
        return GpModel(
            scaling,
            kernel if isinstance(kernel, LayerKernels) else kernel.state(points),
            points,
            posterior.solve,
            posterior.weights,
            posterior.mean,
            self.temperature_,
            self.variance_factor_,
        )

    @property
    def kernel_(self) -> "LayerKernels | Kernel":
        kernel = self._model.kernel
        return kernel.module if isinstance(kernel, GpytorchKernel) else kernel

    @on_cpu()
    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self._model.probabilities(features)

    @on_cpu()
    def _predict_samples_from_features(
        self, features: np.ndarray, n_samples: int, random_state: np.random.RandomState
    ) -> np.ndarray:
        """Draw class probabilities from the raw posterior, (n_samples, n_rows, n_classes), the same for any batch.

        Neither shrunk nor tempered, so that their mean is less sure than `predict_probability`.
        """
        return self._model.draws(features, n_samples, check_random_state(random_state))

    @on_cpu()
    def _predict_variance_from_features(self, features: np.ndarray) -> np.ndarray:
        """Return the raw variance of the latent functions, averaged over the classes: (n_rows,)."""
        return self._model.latent(features)[1].mean(dim=1).numpy()

    def _onnx_head(self) -> nn.Module | None:
        return self._as_module()

    def _onnx_variance(self) -> nn.Module | None:
        return LatentVariance(self._as_module())

    @on_cpu()
    def _as_module(self) -> GaussianProcesses:
        if isinstance(self.target_model_.kernel, KernelState):
            raise NotImplementedError(
                f"{type(self).__name__} has a kernel of gpytorch, which is not exported; leave kernel out, or define "
                "_onnx_head in a subclass"
            )
        return GaussianProcesses(self.target_model_)

    @on_cpu()
    def _head_of_changed_rows(self, rows: ChangedRows) -> dict[str, Any]:
        self._refuse_rows_not_kept("add or remove")
        n_points = self._n_points(len(rows.codes), len(rows.classes))
        targets = DirichletTargets.of(self.alpha_eps_)
        return follow_rows(self._model, vars(self), rows, targets, n_points, rng_at_prediction(self))

    @property
    def refresh_due_(self) -> bool:
        return is_refresh_due(vars(self))

    def _notes_of_update(self, learned: Mapping[str, Any]) -> list[str]:
        told = [REFRESH_DUE] if is_refresh_due(learned) and not self.refresh_due_ else []
        return super()._notes_of_update(learned) + told

    _keeps_classes_without_rows = True

    def _learned_by(self, head: Self, rows: np.ndarray) -> dict[str, Any]:
        learned = super()._learned_by(head, rows)
        codes, features = self.training_codes_[rows], self.training_features_[rows]
        present, before = np.unique(codes, return_inverse=True)
        if len(present) == len(self.classes_):
            return learned
        # `remove` left a class without rows, of which training knows nothing.
        weights = None if (all_weights := self.training_rows().weights) is None else all_weights[rows]
        came_from, layers = np.arange(len(codes)), Features(self._training_layers(self.training_rows()))
        known = (came_from, before, weights, self.classes_, present, layers.indices_per_layer)
        changed = ChangedRows(features, codes, weights, *known)
        return learned | self.with_learned(learned)._head_of_changed_rows(changed)

    @on_cpu()
    def _left_out_in_closed_form(self) -> np.ndarray | None:
        """Compute the probabilities of each training row left out; None where inducing points stand for the rows."""
        if self.n_inducing_ is not None:
            return None
        training, model = self.training_rows(), self.target_model_
        order = np.argsort(training.codes, kind="stable")  # as in training
        repeats = None if training.weights is None else torch.from_numpy(training.weights[order])
        targets = DirichletTargets.of(self.alpha_eps_)
        posterior = Posterior(model.solve, targets, model.weights, model.mean, self.log_evidence_, repeats)
        groups = None if training.groups is None else training.groups[order]
        found = np.empty((len(order), len(self.classes_)))
        with threads_for(len(order)):
            found[order] = left_out_probabilities(
                posterior, model.variance_factor, model.temperature, rng_at_prediction(self), groups
            )
        return found

    @property
    def _model(self) -> GpModel:
        """The target model, able to predict."""
        model = self.target_model
        return (
            replace(model, kernel=model.kernel.given_to(self.kernel))
            if isinstance(model.kernel, KernelState)
            else model
        )

    def _learn_kernel(
        self,
        rows: list[Tensor],
        sizes: list[int],
        targets: DirichletTargets,
        repeats: Tensor | None,
        rng: np.random.RandomState,
        groups: np.ndarray | None,
    ) -> LearnedKernel:
        at_most: dict[str, int] = {"max_function_evaluations": int(self.max_function_evaluations)}
        if self.kernel is None:
            products = Products.between(rows, rows)
            learned = learn_kernel(products, sizes, targets, repeats, **at_most)
        else:
            learned = learn_gpytorch_kernel(self.kernel, rows, sizes, targets, repeats, **at_most)
        self.log_evidence_ = learned.posterior.log_evidence
        self.n_function_evaluations_ = learned.n_evaluations
        self.variance_factor_ = VARIANCE_FACTOR
        self.temperature_ = choose_temperature(learned.posterior, sizes, self.variance_factor_, rng, groups)
        return learned

    def _n_points(self, n_samples: int, n_classes: int) -> int | None:
        """Return how many inducing points to take, or None for an exact posterior."""
        if self.n_inducing is None or (self.n_inducing == "auto" and n_samples <= _MAX_EXACT):
            return None
        wanted = max(_POINTS, n_classes) if self.n_inducing == "auto" else int(self.n_inducing)
        return wanted if wanted < n_samples else None

    def _parameter_mistakes(self) -> list[str]:
        names = ("apply_l2_norm", "kernel", "max_function_evaluations", "n_inducing", "svgp", "alpha_eps")
        return super()._parameter_mistakes() + parameter_mistakes(**{name: getattr(self, name) for name in names})
