"""Validation while training: the averaged network on whole pictures, protocol `y`."""

import math

import numpy as np
import torch

from d2csr.core.config import ModelConfig
from d2csr.core.manifest import Manifest
from d2csr.data.pairs import load_pair
from d2csr.metrics.protocol import score
from d2csr.models.d2csr import D2CSR, Output
from d2csr.train.average import Average

PROTOCOL = "y"


class Validator:
    """The validation pairs, decoded once, and a network to put averaged weights into."""

    def __init__(self, manifest: Manifest, config: ModelConfig, *, device: torch.device) -> None:
        """Decode the pairs; the configuration is the finished model's."""
        self.scale = manifest.scale
        self.pairs = [load_pair(pair, scale=manifest.scale) for pair in manifest.pairs]
        self.device = device
        self.network = D2CSR(config).to(device).eval()

    def psnr_db(self, average: Average) -> tuple[float, list[float]]:
        """Return the mean PSNR of the fused pictures, and of each leaf's predictions."""
        self.network.load_state_dict(average.tensors)
        rows = [self._scores(lr, hr) for lr, hr in self.pairs]
        sr, *leaves = (math.fsum(column) / len(rows) for column in zip(*rows, strict=True))
        return sr, leaves

    def output(self, lr: np.ndarray) -> Output:
        """Return what the network says of one 8-bit RGB picture."""
        image = torch.tensor(lr, device=self.device).permute(2, 0, 1).unsqueeze(0).float() / 255
        with torch.inference_mode():
            return self.network(image.contiguous(memory_format=torch.channels_last))

    def _scores(self, lr: np.ndarray, hr: np.ndarray) -> list[float]:
        output = self.output(lr)
        pictures = [output.sr[0], *output.predictions[0]]
        arrays = [picture.permute(1, 2, 0).float().cpu().numpy() for picture in pictures]
        return [score(sr, hr, protocol=PROTOCOL, scale=self.scale).psnr_db for sr in arrays]
