"""A trunk in segments is the trunk, whatever the model, the size, and the feature store."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from d2csr.core.bundle import Bundle, ModelCard
from d2csr.core.errors import UsageError
from d2csr.core.hardware import usable_cores
from d2csr.engine.backends.base import Precision, ResolvedBackend, bf16_to_float32, load_backend
from d2csr.engine.feature_store import DiskFeatureStore, FeatureStore, MemoryFeatureStore
from d2csr.engine.streaming import StreamedTrunk, plan_windows
from d2csr.export.graphs import write_trunk
from d2csr.models.d2csr import D2CSR
from tests.tiny_models import METADATA, random_network

TREES = [
    {"depth": 1, "children": 2},
    {"depth": 1, "children": 3, "blocks": 2, "mean": "convolution"},
    {"depth": 2, "children": 2, "groups": 2, "blocks": 2},
    {"depth": 2, "children": 3, "deep_residual": False},
    {"depth": 3, "children": 2},
    {"depth": 2, "children": 2, "pooling_px": 5},
    {"depth": 2, "children": 2, "attention": False, "trunk_groups": 2},
    {"depth": 1, "children": 2, "groups": 0, "pooling_px": 3, "trunk_groups": 1},
    {"depth": 1, "children": 1, "pooling_px": 3, "groups": 2, "blocks": 2},
]
RUNS = (((1, 3), "memory"), ((30, 5), "disk"))


def _resolve(network: D2CSR, folder: Path, *, precision: Precision = "fp32") -> ResolvedBackend:
    """Return the backend of a bundle with nothing but a trunk, so that it costs no verification."""
    write_trunk(network, folder / "trunk.onnx")
    config = network.config
    graphs = {"trunk": "trunk.onnx"}
    card = ModelCard(
        METADATA,
        config.scale,
        0,
        config=config,
        receptive_field=config.receptive_field,
        graphs=graphs,
    )
    return ResolvedBackend(Bundle(folder, card), "openvino", "CPU", precision)


def _trunk(network: D2CSR, folder: Path) -> StreamedTrunk:
    return StreamedTrunk(_resolve(network, folder))


def _features(network: D2CSR, lr: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return torch.cat(network.divergence.features(torch.from_numpy(lr)), dim=1).numpy()


def _image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((1, 3, height, width), np.float32)


def _store(kind: str, lr: np.ndarray, folder: Path) -> FeatureStore:
    if kind == "memory":
        return MemoryFeatureStore(*lr.shape[2:], dtype=np.float32)
    return DiskFeatureStore(*lr.shape[2:], dtype=np.float32, folder=folder)


@pytest.mark.parametrize("choices", TREES, ids=lambda tree: "-".join(map(str, tree.values())))
def test_segments_compute_the_features_of_the_network(choices, tmp_path):
    network = random_network(**choices)
    trunk = _trunk(network, tmp_path)
    for size, kind in RUNS:
        lr = _image(*size)
        store = _store(kind, lr, tmp_path)
        features = trunk.run(lr, store=store, window_rows=1)  # raised to the fewest possible
        assert np.abs(features.read(0, size[0]) - _features(network, lr)).max() < 1e-5
        store.close()


@pytest.mark.parametrize("choices", TREES, ids=lambda tree: "-".join(map(str, tree.values())))
def test_segments_compute_the_bits_of_the_whole_trunk(choices, tmp_path):
    """Cuts change no merged layers and no order of sums; bf16 on several cores may round."""
    lr = _image(50, 13)
    network = random_network(**choices)
    for precision in ("fp32", "bf16"):
        if precision not in load_backend("openvino").precisions("CPU"):
            continue
        backend = _resolve(network, tmp_path, precision=precision)
        (whole,) = backend.compile("trunk")([lr])
        trunk = StreamedTrunk(backend)
        store = MemoryFeatureStore(*lr.shape[2:], dtype=trunk.dtype)
        features = trunk.run(lr, store=store, window_rows=1)  # raised to the fewest possible
        found = features.read(0, 50)
        if precision == "bf16" and usable_cores() > 1:
            found, whole = (bf16_to_float32(each) for each in (found, whole))
            np.testing.assert_allclose(found, whole, rtol=0, atol=2**-6 * np.abs(whole).max())
        else:
            assert np.array_equal(found, whole)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[D2CSR, StreamedTrunk]:
    """Return a network of two leaves and its trunk."""
    network = random_network(depth=1, children=2)
    return network, _trunk(network, tmp_path_factory.mktemp("small"))


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 45))
@settings(max_examples=8)
def test_segments_are_exact_at_any_size_in_any_windows(small, height, width, window_rows):
    network, trunk = small
    lr = _image(height, width)
    store = MemoryFeatureStore(height, width, dtype=np.float32)
    features = trunk.run(lr, store=store, window_rows=window_rows)
    assert np.abs(features.read(0, height) - _features(network, lr)).max() < 1e-5


@given(st.integers(1, 300), st.integers(0, 9), st.integers(1, 80))
def test_windows_write_every_row_once_and_read_their_halo(height, halo_rows, more):
    rows = 2 * halo_rows + more
    windows = plan_windows(height, rows=rows, halo_rows=halo_rows)
    assert [row for w in windows for row in range(w.first, w.last)] == list(range(height))
    assert {window.bottom - window.top for window in windows} == {min(rows, height)}
    for window in windows:
        assert window.top <= max(0, window.first - halo_rows)
        assert window.bottom >= min(height, window.last + halo_rows)


def test_a_segments_results_overwrite_the_maps_it_has_read(small):
    """At most one leaf and the residual of the other's block: the head is computed again."""
    _, trunk = small
    assert trunk.requirements.channels == 4 + 4


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_store_returns_the_rows_written(kind, tmp_path):
    random = np.random.default_rng(0)
    store = _store(kind, _image(9, 5), tmp_path)
    maps = {store.add(channels): channels for channels in (2, 1, 3)}
    values = {index: random.random((1, c, 9, 5), np.float32) for index, c in maps.items()}
    for first, last in ((4, 9), (0, 4)):
        for index, whole in values.items():
            store.write(index, first=first, rows=whole[:, :, first:last])
    for index, whole in values.items():
        assert np.array_equal(store.read(index, first=2, last=7), whole[:, :, 2:7])
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_rows_that_were_read_are_copies(tmp_path):
    """A segment overwrites what it has read; the rows that it still needs must not change."""
    store = _store("memory", _image(4, 5), tmp_path)
    index = store.add(1)
    store.write(index, first=0, rows=np.zeros((1, 1, 4, 5), np.float32))
    rows = store.read(index, first=0, last=4)
    store.write(index, first=0, rows=np.ones((1, 1, 4, 5), np.float32))
    assert not rows.any()


def test_a_full_disk_is_an_error_with_the_size_needed(tmp_path, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    store = DiskFeatureStore(1000, 1000, dtype=np.float32, folder=tmp_path)
    with pytest.raises(UsageError, match=r"no room for 62 MiB of feature maps: No space.*TMPDIR"):
        store.add(16)
    store.close()
