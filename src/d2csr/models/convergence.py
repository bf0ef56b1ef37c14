"""Convergence network: a weight per prediction and pixel, summing to one.

Source: D2C-SR section 3.3; layers as in the authors' code, docs/method.md.
"""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.config import ModelConfig


class ConvergenceNet(nn.Module):
    """All predictions in, one weight map per prediction out."""

    def __init__(self, config: ModelConfig) -> None:
        """Build three 3x3 convolutions without bias, on the SR grid."""
        super().__init__()
        width = config.convergence_channels
        widths = (3 * config.leaves, width, width, config.leaves)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            for inputs, outputs in pairwise(widths)
        )
        self.last_relu = config.convergence_last_relu

    def forward(self, predictions: Float[Tensor, "b p 3 sh sw"]) -> Float[Tensor, "b p sh sw"]:
        """Return the weights, each in 0..1, summing to one over the predictions."""
        features = predictions.flatten(1, 2)
        for conv in self.convs[:-1]:
            features = F.relu(conv(features))
        logits = self.convs[-1](features)
        return (F.relu(logits) if self.last_relu else logits).softmax(dim=1)
