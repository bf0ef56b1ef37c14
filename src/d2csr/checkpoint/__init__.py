"""Weights on disk: saved, loaded, and converted from the authors' checkpoints."""

from d2csr.checkpoint.systems import load_network

__all__ = ["load_network"]
