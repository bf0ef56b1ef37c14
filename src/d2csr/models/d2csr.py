"""D2C-SR whole: predictions of the tree fused by weights per pixel (Eq. 8)."""

from dataclasses import replace
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.config import ModelConfig
from d2csr.models.convergence import ConvergenceNet
from d2csr.models.divergence import DivergenceNet
from d2csr.models.tail import ExpandedTail, collapse_tail


class Output(NamedTuple):
    """What the network says of one batch, RGB in the units of the input, nothing clipped.

    Attributes:
        sr: the fused picture, (b, 3, S h, S w).
        predictions: one picture per leaf, (b, p, 3, S h, S w).
        weights: their weights, (b, p, S h, S w), summing to one over p.
    """

    sr: Float[Tensor, "b 3 sh sw"]
    predictions: Float[Tensor, "b p 3 sh sw"]
    weights: Float[Tensor, "b p sh sw"]


class D2CSR(nn.Module):
    """LR picture in; fused SR, predictions and weight maps out."""

    def __init__(self, config: ModelConfig) -> None:
        """Build both networks with random weights (PyTorch's default initialisation)."""
        super().__init__()
        self.config = config
        self.divergence = DivergenceNet(config)
        self.convergence = ConvergenceNet(config)

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Output:
        """Return SR, predictions and weights for RGB pictures in 0..1."""
        predictions = self.divergence(lr)
        weights = self.convergence(predictions)
        return Output(fuse(predictions, weights), predictions, weights)

    def collapse(self) -> "D2CSR":
        """Return a copy whose tails are single convolutions, the same pictures to rounding."""
        if self.config.tail == "collapsed":
            collapsed = D2CSR(self.config)
            collapsed.load_state_dict(self.state_dict())
            return collapsed.train(self.training)
        collapsed = D2CSR(replace(self.config, tail="collapsed"))
        kept = {name: value for name, value in self.state_dict().items() if ".tails." not in name}
        collapsed.load_state_dict(kept, strict=False)
        tails = [tail for tail in self.divergence.tails if isinstance(tail, ExpandedTail)]
        collapsed.divergence.tails = nn.ModuleList(
            collapse_tail(tail, self.config) for tail in tails
        )
        return collapsed.train(self.training)

    def parameter_count(self) -> int:
        """Return the number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters())


def fuse(
    predictions: Float[Tensor, "b p 3 sh sw"], weights: Float[Tensor, "b p sh sw"]
) -> Float[Tensor, "b 3 sh sw"]:
    """Return the weighted sum of the predictions (Eq. 8).

    A plain product and sum: `einsum` turns it into a batched matrix product per pixel, which took
    a sixth of a training step.
    """
    return (predictions * weights.unsqueeze(2)).sum(dim=1)
