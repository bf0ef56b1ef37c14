"""Small networks with random weights, and their bundles, for tests of export and engine."""

from pathlib import Path

import torch

from d2csr.core.bundle import Bundle, ModelMetadata
from d2csr.core.config import ModelConfig
from d2csr.export.bundle_writer import export_bundle
from d2csr.models.d2csr import D2CSR

METADATA = ModelMetadata(
    name="tiny", licence="MIT", data="noise", steps=3, seed=0, machine="a test"
)


def random_network(**choices: object) -> D2CSR:
    """Return a network that runs in milliseconds, x2 by default; the same weights each time."""
    sizes = {"scale": 2, "channels": 4, "groups": 1, "blocks": 1, "convergence_channels": 4}
    torch.manual_seed(1)
    return D2CSR(ModelConfig.from_dict(sizes | choices)).eval()


def tiny_bundle(folder: Path, **choices: object) -> Bundle:
    """Return the bundle of such a network, written into a folder."""
    return export_bundle(random_network(**choices), folder, metadata=METADATA)
