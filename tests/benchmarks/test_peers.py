"""The peers of the speed benchmark run the same network as PyTorch."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter to ONNX
@pytest.mark.parametrize(
    ("peer", "options", "tolerance"),
    [
        ("ncnn_run", {"bf16": False, "threads": 1}, 1e-4),
        ("ncnn_run", {"bf16": True, "threads": 1}, 3e-2),
        ("onnxruntime_run", {"threads": 1}, 1e-5),
        ("openvino_run", {"precision": "f32", "threads": 1}, 1e-5),
    ],
)
def test_a_peer_gives_the_image_of_the_network(monkeypatch, peer, options, tolerance):
    monkeypatch.syspath_prepend(BENCHMARKS)
    plain, runners = (importlib.import_module(f"peers.{name}") for name in ("plain", "runners"))
    network = plain.PlainNet(plain.PlainSizes(scale=3, width=8, blocks=2)).eval()
    lr = np.random.default_rng(0).random((3, 20, 31), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(lr)[None])[0].numpy()
    sr = getattr(runners, peer)(network, **options)(lr)
    assert sr.shape == (3, 60, 93)
    assert np.abs(sr - expected).max() / np.abs(expected).max() < tolerance


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of the checks of shapes
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter to ONNX
@pytest.mark.parametrize(
    "values",
    [
        {"system": "rrdbnet", "scale": 4, "features": 8, "blocks": 1, "growth": 4},
        {"system": "srvgg", "scale": 4, "features": 8, "middle": 2},
    ],
)
@pytest.mark.parametrize(
    ("peer", "options"),
    [
        ("ncnn_run", {"bf16": False, "threads": 1}),
        ("onnxruntime_run", {"threads": 1}),
        ("openvino_run", {"precision": "f32", "threads": 1}),
    ],
)
def test_a_network_of_another_program_runs_on_every_engine(monkeypatch, values, peer, options):
    monkeypatch.syspath_prepend(BENCHMARKS)
    plain, runners = (importlib.import_module(f"peers.{name}") for name in ("plain", "runners"))
    network = plain.make_network(values)
    lr = np.random.default_rng(0).random((3, 20, 31), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(lr)[None])[0].numpy()
    sr = getattr(runners, peer)(network, **options)(lr)
    assert sr.shape == (3, 80, 124)
    assert np.abs(sr - expected).max() / np.abs(expected).max() < 1e-4


def test_the_plain_network_has_as_many_parameters_as_the_model(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    plain = importlib.import_module("peers.plain")
    count = plain.parameter_count(plain.PlainNet(plain.peer_sizes()))
    assert abs(count / plain.peer_bundle().card.parameters - 1) < 0.1
