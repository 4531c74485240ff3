"""`DrawnNetworks`: the mean over networks whose weights were drawn once, and are kept."""

import torch
from torch import Tensor, nn

from repurpose.meta_model.bnn.model import BnnModel
from repurpose.meta_model.onnx_heads.numbers import double

__all__ = ["DrawnNetworks"]

_MIN_PROBABILITY = 1e-15  # as in `BnnModel`


class DrawnNetworks(nn.Module):
    """Maps features to the probabilities of `BnnModel`, by the same draws."""

    center: Tensor
    factor: Tensor
    components: Tensor
    intercepts: Tensor
    least: Tensor

    def __init__(self, model: BnnModel) -> None:
        super().__init__()
        rows = model.rows
        for name, array in {"center": rows.center, "factor": rows.factor, "components": rows.components}.items():
            self.register_buffer(name, double(array))
        self.register_buffer("intercepts", double(model.intercepts))
        self.register_buffer("least", double(_MIN_PROBABILITY))
        self.n_maps = len(model.means)
        for number, weights in enumerate(model.drawn_weights()):  # (n_draws, n_inputs, n_outputs)
            self.register_buffer(f"map_{number}", weights)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n_rows, n_features) to probabilities (n_rows, n_classes), float64."""
        rows = ((features.double() - self.center) * self.factor) @ self.components
        skip, *hidden_maps, last = (getattr(self, f"map_{number}") for number in range(self.n_maps))
        hidden = rows
        for weights in hidden_maps:  # their last row is that of the intercepts
            hidden = torch.relu(hidden @ weights[:, :-1] + weights[:, -1:])
        logits = rows @ skip + hidden @ last + self.intercepts
        raised = torch.maximum(torch.softmax(logits, dim=-1).mean(dim=0), self.least)
        return raised / raised.sum(dim=-1, keepdim=True)
