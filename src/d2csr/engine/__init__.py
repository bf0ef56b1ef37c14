"""The engine: bundles run on pictures, without torch."""

from d2csr.engine.engine import Engine, open_engine

__all__ = ["Engine", "open_engine"]
