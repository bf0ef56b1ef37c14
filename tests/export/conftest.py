"""Small networks with random weights, and their bundles."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from d2csr.core.bundle import Bundle, CardFacts
from d2csr.core.config import ModelConfig
from d2csr.export.write import export_bundle
from d2csr.models.d2csr import D2CSR

FACTS = CardFacts(name="tiny", licence="MIT", data="noise", steps=3, seed=0, machine="a test")


def tiny_config(**choices: object) -> ModelConfig:
    """Return the configuration of a network that runs in milliseconds."""
    sizes = {"scale": 2, "channels": 4, "groups": 1, "blocks": 1, "convergence_channels": 4}
    return ModelConfig.from_dict(sizes | choices)


def random_network(**choices: object) -> D2CSR:
    """Return a tiny network whose every weight, biases too, is random, the same each time."""
    torch.manual_seed(1)
    return D2CSR(tiny_config(**choices)).eval()


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., tuple[D2CSR, Bundle]]:
    """Return a function that makes a network and exports it."""

    def export(**choices: object) -> tuple[D2CSR, Bundle]:
        network = random_network(**choices)
        return network, export_bundle(network, tmp_path / "bundle", card=FACTS)

    return export
