"""Weights on disk: saved, loaded and converted, always as safetensors."""

from d2csr.checkpoint.io import load_network

__all__ = ["load_network"]
