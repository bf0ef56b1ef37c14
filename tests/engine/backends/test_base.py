"""The table of backends, the choice among them, and the names of devices."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from d2csr.core.bundle import EvaluationScore, PrecisionError
from d2csr.core.errors import BundleError, OutOfMemoryError, UsageError
from d2csr.engine.backends import base as module
from d2csr.engine.backends.base import (
    BACKENDS,
    DeviceOptions,
    convert_out_of_memory,
    load_backend,
    resolve_backend,
)
from d2csr.engine.backends.openvino import OpenVinoBackend, select_device
from d2csr.engine.backends.pytorch import TorchBackend

TWO_GPUS = ("CPU", "GPU.0", "GPU.1", "NPU")


@pytest.fixture
def measured(bundle):
    """Return a function that gives the bundle another measurement of bfloat16."""

    def measure(psnr_to_fp32_db: float, **metadata):
        losses = {"bf16": PrecisionError(psnr_to_fp32_db, 3)}
        card = replace(
            bundle.card, precisions=losses, metadata=replace(bundle.card.metadata, **metadata)
        )
        return replace(bundle, card=card)

    return measure


@pytest.fixture
def bf16_machine(monkeypatch):
    """Make OpenVINO report that this machine multiplies bfloat16."""
    monkeypatch.setattr(
        OpenVinoBackend, "precisions", lambda self, device: ("int8", "bf16", "fp32")
    )


def test_every_backend_of_the_table_loads():
    for name in BACKENDS:
        backend = load_backend(name)
        assert "fp32" in backend.precisions(backend.find_device("cpu"))


def test_an_unknown_backend_fails_with_the_known_ones():
    with pytest.raises(UsageError, match=r"no backend is called 'cuda'.*auto, openvino, onnx"):
        load_backend("cuda")


def test_a_backend_that_is_not_installed_fails_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=r"needs onnxruntime.*'d2csr\[onnxruntime\]'"):
        load_backend("onnxruntime")
    with pytest.raises(UsageError, match=r"needs torch.*'d2csr\[train\]'"):
        load_backend("reference")


@pytest.mark.parametrize("name", BACKENDS)
def test_a_device_that_is_not_there_is_refused(bundle, name):
    with pytest.raises(UsageError, match="'77' is not a device"):
        resolve_backend(bundle, backend=name, options=DeviceOptions(device="77"))


def test_automatic_precision_follows_the_measurements_on_the_card(measured, bf16_machine):
    def chosen(bundle):
        return resolve_backend(bundle, backend="openvino", options=DeviceOptions("cpu")).precision

    assert chosen(measured(60.3)) == "fp32"  # without scores: assumed to reach 34 dB
    assert chosen(measured(60.5)) == "bf16"
    score = EvaluationScore("pairs", "y", 5, 40.0, 0.9, (39.0, 41.0), (0.8, 0.95))
    assert chosen(measured(66.3, scores=(score,))) == "fp32"
    assert chosen(measured(66.5, scores=(score,))) == "bf16"
    unmeasured = measured(99.0)
    assert chosen(replace(unmeasured, card=replace(unmeasured.card, precisions={}))) == "fp32"


def test_the_accuracy_target_is_a_hundredth_of_a_decibel():
    """An error of 26.4 dB below the model's own, added to it."""
    assert 10 * math.log10(1 + 10**-2.64) == pytest.approx(0.01, abs=1e-4)


def test_a_precision_without_graphs_is_refused(measured, bf16_machine):
    with pytest.raises(UsageError, match=r"no int8 for tiny on CPU\. Choose one of auto, bf16"):
        resolve_backend(measured(99.0), backend="openvino", options=DeviceOptions("cpu", "int8"))


def test_auto_takes_torch_where_there_is_a_gpu_of_nvidia_and_else_openvino(bundle, monkeypatch):
    monkeypatch.setattr(TorchBackend, "find_device", lambda self, name: "cuda:0")
    monkeypatch.setattr(TorchBackend, "precisions", lambda self, device: ("bf16", "fp32"))
    monkeypatch.setattr(module, "_has_nvidia_gpu", lambda: True)

    def chosen(device):
        resolved = resolve_backend(bundle, backend="auto", options=DeviceOptions(device))
        return resolved.name, resolved.device

    assert chosen("auto") == ("torch", "cuda:0")
    assert chosen("cpu") == ("openvino", "CPU")
    monkeypatch.setattr(module, "_has_nvidia_gpu", lambda: False)
    assert chosen("auto") == ("openvino", "CPU")


def test_choosing_openvino_loads_neither_torch_nor_onnxruntime(bundle):
    code = """
import sys
from pathlib import Path
from d2csr.core.bundle import read_bundle
from d2csr.engine import open_engine
open_engine(read_bundle(Path(sys.argv[1])), device="cpu")
sys.exit(bool({"torch", "onnxruntime", "scipy", "pandas"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, str(bundle.folder)]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize(
    ("given", "available", "name"),
    [
        ("auto", ("CPU",), "CPU"),
        ("auto", TWO_GPUS, "CPU"),
        ("CPU", TWO_GPUS, "CPU"),
        ("-1", TWO_GPUS, "CPU"),
        ("gpu", TWO_GPUS, "GPU.0"),
        ("1", TWO_GPUS, "GPU.1"),
        ("0", ("CPU", "GPU"), "GPU"),
    ],
)
def test_a_device_is_found_by_word_or_index(given, available, name):
    assert select_device(given, available) == name


@pytest.mark.parametrize("given", ["gpu", "0", "cuda:0"])
def test_an_unknown_device_fails_with_those_that_exist(given):
    with pytest.raises(UsageError, match=rf"'{given}' is not a device.*auto, cpu, -1 \(.* CPU\)"):
        select_device(given, ("CPU",))


@pytest.mark.parametrize(
    ("name", "words"), [("openvino", "OpenVINO can't compile"), ("onnxruntime", "ONNX Runtime")]
)
def test_a_damaged_graph_is_named(bundle, tmp_path, name, words):
    (tmp_path / "tail.onnx").write_bytes(b"no graph")
    damaged, device = replace(bundle, folder=tmp_path), load_backend(name).find_device("cpu")
    with pytest.raises(BundleError, match=rf"tail\.onnx: {words}"):
        load_backend(name).compile_graph(damaged, "tail", device=device, precision="fp32")
    assert OpenVinoBackend().compile_graph(bundle, "tail", device="CPU", precision="fp32")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_a_graph_given_the_wrong_input_fails_with_its_own_error(bundle, backend):
    options = DeviceOptions(device="cpu", precision="fp32")
    trunk = resolve_backend(bundle, backend=backend, options=options).compile("trunk")
    with pytest.raises(Exception, match=r".") as caught:
        trunk([np.zeros((1, 3, 8), np.float32)])
    assert not isinstance(caught.value, OutOfMemoryError)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc")])
def test_a_failed_allocation_becomes_an_error_of_its_own_class(error):
    """An error without a message once raised IndexError here, so the plan was never halved."""
    inputs = [np.zeros((1, 3, 4, 5), np.float32)]
    with (
        pytest.raises(OutOfMemoryError, match=r"tail: torch runs out of memory on inputs \(1, 3"),
        convert_out_of_memory("torch", where="tail", inputs=inputs),
    ):
        raise error


def test_openvinos_model_converter_is_blocked_only_while_openvino_is_imported():
    """The converter reports its import to a server; other code of the process may want it."""
    code = """
import sys, importlib.util
import d2csr.engine
assert "openvino" in sys.modules
assert "openvino.tools.ovc" not in sys.modules
assert importlib.util.find_spec("openvino.tools.ovc")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
