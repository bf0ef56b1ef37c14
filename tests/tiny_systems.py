"""Compared systems at sizes that run in milliseconds, with random weights, and their bundles."""

from pathlib import Path

import torch

from d2csr.core.bundle import Bundle, ModelMetadata
from d2csr.export.system_bundle import write_system_bundle
from d2csr.models.networks.base import SystemNetwork
from d2csr.models.systems import SYSTEMS, build_system

# Sizes that differ from `small`, so that networks and what they depend on are small.
TINY = {
    "srcnn": {"features": [6, 4], "kernels": [5, 3, 3]},
    "fsrcnn": {"features": 8, "shrunk": 4, "mappings": 2},
    "vdsr": {"features": 4, "layers": 4},
    "lapsrn": {"features": 4, "depth": 2},
    "drcn": {"features": 4, "recursions": 3},
    "memnet": {"features": 4, "blocks": 2, "recursions": 1},
    "srresnet": {"features": 4, "blocks": 1},
    "msrresnet": {"features": 4, "blocks": 1},
    "edsr": {"features": 4, "blocks": 1},
    "rcan": {"features": 4, "groups": 1, "blocks": 1, "reduction": 2},
    "rdn": {"features": 4, "blocks": 1, "layers": 2, "growth": 4},
    "dbpn": {"features": 3, "head_features": 4, "units": 2},
    "srmdnf": {"features": 4, "layers": 3},
    "rrdbnet": {"features": 4, "blocks": 1, "growth": 2},
    "srflow": {"features": 4, "blocks": 1, "growth": 2, "steps": 1, "hidden": 4},
    "lpkpn": {"features": 16, "blocks": 1},
    "cdc": {"features": 2, "hourglasses": 4, "middle": 1, "tails": 1},
    "srvgg": {"features": 4, "middle": 1},
    "span": {"features": 4},
    "safmn": {"features": 4, "blocks": 1},
}
NAMES = tuple(name for name, spec in SYSTEMS.items() if spec.network is not None)
METADATA = ModelMetadata("tiny", licence="MIT", data="noise", steps=3, seed=0)


def tiny_system(name: str, *, scale: int = 3, **sizes: object) -> SystemNetwork:
    """Return a network with random weights, none of them 0; the same in each call."""
    torch.manual_seed(1)
    network = build_system(name, scale=scale, **(TINY[name] | sizes)).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.02 * torch.randn_like(value))
    return network


def tiny_system_bundle(name: str, folder: Path, *, scale: int = 3, **sizes: object) -> Bundle:
    """Return the bundle of such a network, written into a folder."""
    return write_system_bundle(tiny_system(name, scale=scale, **sizes), folder, metadata=METADATA)
