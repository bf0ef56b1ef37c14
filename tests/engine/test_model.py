"""A model as Python code uses it, on a small random network."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
import pyvips
import torch

import d2csr
from d2csr.core.bundle import Bundle
from d2csr.core.errors import ImageError, ModelNameError, UsageError
from d2csr.core.hardware import rss_bytes
from d2csr.engine import model as model_module
from d2csr.engine import planning
from d2csr.engine.engine import Engine
from d2csr.engine.model import Model, load
from d2csr.images.writer import write_rgb8
from d2csr.upscale.options import OutputOptions
from d2csr.upscale.run import upscale_files
from tests.tiny_models import random_network

SIZES = ((9, 70), (33, 20), (64, 64), (40, 9))
TYPES = ("uint8", "uint16", "float16", "float32", "float64")
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


KINDS = [(shape, dtype) for shape in ((), (1,), (2,), (3,), (4,)) for dtype in TYPES]


def _image(channels: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return noise of a kind; the last of an even number of channels is alpha."""
    values = np.random.default_rng(7).random((7, 9, *channels))
    return values.astype(dtype) if dtype[0] == "f" else (values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
def test_a_result_is_of_the_kind_of_the_image(bundle: Bundle, channels, dtype):
    model, image = load(bundle.folder, precision="fp32"), _image(channels, dtype)
    sr, prediction = model.upscale(image), model.predict(image)
    assert (sr.shape, sr.dtype) == ((14, 18, *channels), image.dtype)
    assert np.array_equal(prediction.sr, sr)
    assert (prediction.predictions.shape, prediction.predictions.dtype) == (
        (4, *sr.shape),
        sr.dtype,
    )
    white = np.iinfo(dtype).max if dtype[0] == "u" else 1
    reference = model.upscale((image / white).astype(np.float64))  # the same image in floats
    step = 0.51 / white if dtype[0] == "u" else np.finfo(dtype).eps
    assert np.abs(sr / white - reference).max() <= step


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_an_array_gives_the_pixels_of_the_file_that_upscale_writes(
    bundle: Bundle, tmp_path, channels, dtype, strength
):
    image = _image((channels,), dtype)
    image[:3] = image[0, 0]  # a flat region, and one that is transparent
    if channels in (2, 4):
        image[4:, :5, -1] = 0
    kind = {"uint8": ("b-w", "srgb"), "uint16": ("grey16", "rgb16")}[dtype][channels > 2]
    pyvips.Image.new_from_array(image, interpretation=kind).write_to_file(tmp_path / "a.png")
    options = OutputOptions(strength=strength)
    upscale_files([tmp_path / "a.png"], tmp_path / "out", model=bundle, options=options)
    file = pyvips.Image.new_from_file(tmp_path / "out" / "a.png").numpy()
    model = load(bundle.folder)
    assert np.array_equal(model.upscale(image, strength=strength).squeeze(), file)
    assert np.array_equal(model.upscale(str(tmp_path / "a.png"), strength=strength), file)
    assert np.array_equal(model.predict(tmp_path / "a.png").sr, model.upscale(image).squeeze())


def test_a_list_of_images_gives_a_list_of_results(bundle: Bundle, tmp_path):
    model, gray = load(bundle.folder), _image((), "uint16")
    write_rgb8(tmp_path / "a.png", LR8)
    results = model.upscale([LR8, tmp_path / "a.png", gray])
    assert len(results) == 3
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[2], model.upscale(gray))
    assert model.upscale(()) == []


def test_images_of_pillow_and_arrays_of_any_layout_are_taken(bundle: Bundle):
    model, sr = load(bundle.folder), load(bundle.folder).upscale(LR8)
    assert np.array_equal(model.upscale(PIL.Image.fromarray(LR8)), sr)
    flipped = np.asfortranarray(LR8[:, ::-1])[:, ::-1]
    assert np.array_equal(model.upscale(flipped), sr)
    gray = _image((), "uint16")
    assert np.array_equal(model.upscale(gray.astype(">u2")), model.upscale(gray))
    with pytest.raises(ImageError, match=r'mode P\. Use image\.convert\("RGB"\)'):
        model.upscale(PIL.Image.fromarray(LR8).convert("P"))


def test_what_a_file_holds_besides_is_warned_of(bundle: Bundle, tmp_path):
    write_rgb8(tmp_path / "a.webp", LR8)
    (tmp_path / "a.webp").rename(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"a\.png: mislabelled: .*WebP"):
        load(bundle.folder).upscale(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((4, 4, 3), np.int64), r"has shape \(4, 4, 3\) and type int64\. Give \(height, w"),
        (np.zeros((4, 4, 3), bool), "type bool"),
        (np.zeros((4, 4, 5), np.uint8), "has shape"),
        (np.zeros((0, 4, 3), np.uint8), "has shape"),
        (np.zeros((2, 4, 4, 3), np.uint8), "has shape"),
        (np.zeros(4, np.uint8), "has shape"),
        (
            np.full((4, 4, 3), 255.0),
            r"has values from 255 to 255\. Floating-point values must be in",
        ),
        (np.full((4, 4, 3), -0.1), "has values from -0.1"),
        (np.full((4, 4, 3), np.nan), "has values from nan to nan"),
        ("photo.png", r"photo\.png: does not exist"),
    ],
)
def test_an_array_that_is_no_image_is_refused(bundle: Bundle, image, problem):
    with pytest.raises(ImageError, match=problem):
        load(bundle.folder).upscale(image)


def test_numbers_in_a_list_are_refused(bundle: Bundle):
    """Outside this process, where no annotation is checked, as users run it."""
    code = "import sys, d2csr; d2csr.load(sys.argv[1]).upscale([1, 2])"
    command = [sys.executable, "-c", code, str(bundle.folder)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert "ImageError: array: has shape () and type int64. Give (height, width)" in answer.stderr


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
