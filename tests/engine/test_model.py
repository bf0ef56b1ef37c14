"""A model as Python code uses it, on a small random network."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import d2csr
from d2csr.core.bundle import Bundle
from d2csr.core.errors import ModelNameError, UsageError
from d2csr.core.hardware import rss_bytes
from d2csr.engine import model as model_module
from d2csr.engine import planning
from d2csr.engine.engine import Engine
from d2csr.engine.model import Model, load
from tests.tiny_models import random_network

SIZES = ((9, 70), (33, 20), (64, 64), (40, 9))
TALL_SIZES = ((9, 20), (33, 20), (40, 9), (200, 20))
LR8 = np.random.default_rng(0).integers(0, 256, (9, 70, 3), dtype=np.uint8)


def test_upscale_is_the_network_clipped_and_rounded(bundle: Bundle):
    lr = torch.from_numpy(LR8 / np.float32(255)).permute(2, 0, 1)[None]
    with torch.no_grad():
        sr = random_network(base="bicubic")(lr).sr[0].permute(1, 2, 0).numpy() * 255
    assert sr.min() < 0  # something to clip
    assert sr.max() > 255
    levels = load(bundle.folder, precision="fp32").upscale(LR8).astype(np.float64)
    assert np.abs(levels - sr.clip(0, 255)).max() < 0.501


def test_predict_returns_predictions_weights_and_disagreement_too(bundle: Bundle):
    model = load(bundle.folder)
    answer = model.predict(LR8)
    assert np.array_equal(answer.sr, model.upscale(LR8))
    assert (answer.predictions.shape, answer.predictions.dtype) == ((4, 18, 140, 3), np.uint8)
    assert (answer.weights.shape, answer.weights.dtype) == ((4, 18, 140), np.float32)
    assert np.allclose(answer.weights.sum(0), 1, atol=1e-6)
    assert (answer.disagreement.shape, answer.disagreement.min() > 0) == ((18, 140), True)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_eight_threads_get_the_same_images_as_one(bundle: Bundle, backend: str):
    """One model, as a server uses it: images of several sizes at once, in whole and in strips."""
    _check_threads(load(bundle.folder, backend=backend, precision="fp32"), sizes=SIZES, calls=64)


@pytest.mark.parametrize("trunk", ["memory", "disk"])
def test_eight_threads_get_the_same_images_in_segments_within_a_memory_limit(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, trunk: str
):
    """One trunk cut into segments for all threads, and feature maps of each image its own."""
    monkeypatch.setattr(planning, "_WHOLE_LIMIT_BYTES", 0)
    monkeypatch.setattr(planning, "_FIXED_BYTES", 0)
    opened = load(bundle.folder, precision="fp32", memory=(rss_bytes() or 0) + (1 << 30))
    if trunk == "disk":  # too little for the feature maps of the largest image
        monkeypatch.setattr(Engine, "_budget", lambda self: 300_000)
    plans = {opened.engine.plan(*size).trunk for size in TALL_SIZES}
    assert trunk in plans <= {"memory", "disk"}
    _check_threads(opened, sizes=TALL_SIZES, calls=8)


def _check_threads(model: Model, *, sizes: Sequence[tuple[int, int]], calls: int) -> None:
    """Check that calls from 8 threads return what one thread gets."""
    generator = np.random.default_rng(5)
    images = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    expected = [model.upscale(image) for image in images]
    indices = [index % len(images) for index in range(calls)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda index: model.upscale(images[index]), indices))
    wrong = [
        call
        for call, (index, sr) in enumerate(zip(indices, results, strict=True))
        if not np.array_equal(sr, expected[index])
    ]
    assert wrong == []


def test_d2csr_load_has_the_options_of_the_engine(bundle: Bundle):
    model = d2csr.load(bundle.folder, backend="onnxruntime", device="cpu", precision="fp32")
    backend = model.engine.backend
    assert (backend.name, backend.device, backend.precision) == ("onnxruntime", "cpu", "fp32")
    with pytest.raises(UsageError, match=r"memory: .*Allow \d+ MiB more"):
        d2csr.load(bundle.folder, device="cpu", memory=1 << 20).upscale(LR8)


def test_import_d2csr_loads_no_library():
    code = "import sys, d2csr; sys.exit(bool({'numpy', 'openvino', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_model_has_a_name_and_a_scale(bundle: Bundle):
    model = load(bundle.folder)
    assert (model.name, model.scale, model.bundle) == ("tiny", 2, bundle)


def test_an_array_that_is_no_image_is_refused(bundle: Bundle):
    """Outside this process, where no annotation is checked, as users run it."""
    code = """
import sys, numpy as np, d2csr
from d2csr.core.errors import ImageError
model = d2csr.load(sys.argv[1])
wrong = [((4, 4, 3), "f4"), ((4, 4), "u1"), ((4, 4, 4), "u1"), ((0, 4, 3), "u1"), ((4,), "u1")]
for image in [*(np.zeros(shape, kind) for shape, kind in wrong), [1, 2], "photo.png"]:
    try:
        model.upscale(image)
    except ImageError as error:
        print(error.problem)
"""
    command = [sys.executable, "-c", code, str(bundle.folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.count("has shape") == 7


def test_a_bundle_is_found_by_its_folder_and_by_that_of_its_run(bundle: Bundle, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bundle").symlink_to(bundle.folder)
    assert model_module.find_bundle(bundle.folder) == bundle.folder
    assert model_module.find_bundle(str(tmp_path / "run")) == tmp_path / "run" / "bundle"


def test_a_shipped_model_is_found_by_its_name(bundle: Bundle, monkeypatch):
    monkeypatch.setattr(model_module, "_WEIGHTS", bundle.folder.parent)
    assert model_module.shipped_names() == ["tiny"]
    assert model_module.find_bundle("tiny") == bundle.folder
    with pytest.raises(
        ModelNameError, match=r"tinny: is neither a shipped model .*\. Shipped models: tiny\."
    ):
        model_module.find_bundle("tinny")


def test_a_folder_without_a_model_fails_with_a_remedy(tmp_path):
    with pytest.raises(ModelNameError, match=r"contains neither .*`d2csr export`"):
        model_module.find_bundle(tmp_path)


def test_every_shipped_model_loads():
    for name in model_module.shipped_names():
        model = load(name)
        assert model.upscale(LR8[:3, :5]).shape == (3 * model.scale, 5 * model.scale, 3)
