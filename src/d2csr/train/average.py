"""An exponential moving average of the weights, which is what validation and bundles use."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """The averaged weights of a network."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Start from the network's weights; decay 0 follows them exactly."""
        self.decay = decay
        self.tensors = {name: value.clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network's weights; early steps, counted from 0, move faster."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        for name, value in network.state_dict().items():
            self.tensors[name].lerp_(value, 1 - decay)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over saved averages."""
        for name, value in self.tensors.items():
            value.copy_(tensors[name])
