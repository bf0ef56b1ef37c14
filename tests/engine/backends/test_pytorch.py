"""Torch as a backend: memory that runs out, and weights that change in their folder."""

import numpy as np
import torch

from d2csr.engine import open_engine
from d2csr.engine.backends.pytorch import _as_graph
from d2csr.export.bundle_writer import export_bundle
from d2csr.models.d2csr import D2CSR
from tests.tiny_models import METADATA, random_network

LR01 = np.random.default_rng(0).random((30, 6, 3), np.float32)


def test_a_plan_is_halved_after_a_memory_error_without_a_message(bundle, monkeypatch):
    """Numpy and torch raise MemoryError() without a word where malloc fails."""
    engine = open_engine(bundle, backend="torch", device="cpu", precision="fp32")
    expected = engine.run(LR01).sr
    monkeypatch.setattr("d2csr.engine.planning._FIXED_BYTES", 0)  # or half would be too little
    monkeypatch.setattr(engine, "_tail", _failing(engine._tail, max_rows=20))
    assert np.abs(engine.run(LR01).sr - expected).max() < 1e-5


def _failing(tail, *, max_rows: int):
    """Return a tail whose network allocates nothing for more rows than these."""

    def refuse(*_: torch.Tensor) -> list[torch.Tensor]:
        raise MemoryError

    refuses = _as_graph(refuse, device="cpu", precision="fp32", where="tail")

    def run(features: np.ndarray, lr: np.ndarray):
        return tail(features, lr) if lr.shape[2] <= max_rows else refuses([features, lr])

    return run


def test_a_bundle_written_again_into_its_folder_runs_with_its_new_weights(tmp_path):
    first = random_network(base="bicubic")
    other = D2CSR(first.config).eval()
    runs = []
    for network in (first, other):
        bundle = export_bundle(network, tmp_path / "bundle", metadata=METADATA)
        engine = open_engine(bundle, backend="torch", device="cpu", precision="fp32")
        runs.append(engine.run(LR01).sr)
    assert np.abs(runs[0] - runs[1]).max() > 1e-3
