"""`d2csr upscale` with the networks of other papers: strips, memory, kinds of images, refusals."""

import warnings

import numpy as np
import pytest
from PIL import Image

from d2csr.core.errors import UsageError
from d2csr.engine import planning
from d2csr.engine.engine import open_engine
from d2csr.engine.model import load
from d2csr.upscale.options import BatchOptions, ComputeOptions, OutputOptions
from d2csr.upscale.run import upscale_files
from tests.tiny_systems import NAMES

FP32 = ComputeOptions(precision="fp32")


@pytest.fixture(scope="module")
def photo(data_folder, tmp_path_factory):
    """Return a part of a photograph, 20x121 pixels, as a PNG file."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    source = data_folder / "city100/nikon_d5500_x3/val/Nikon_005_LR3.webp"
    with Image.open(source) as image:
        image.convert("RGB").crop((40, 40, 60, 161)).save(path)
    return path


def enlarge(photo, folder, bundle, **options) -> np.ndarray:
    """Return the pixels of the file that `upscale` makes of a photograph."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upscale_files([photo], folder, model=bundle.folder, compute=FP32, **options)
    (written,) = folder.glob("*.png")
    with Image.open(written) as image:
        return np.array(image)


@pytest.mark.parametrize("name", NAMES)
def test_strips_give_the_pixels_of_the_whole(system_bundle, photo, tmp_path, monkeypatch, name):
    """The constants leave memory for twice the smallest strip.

    One value in thousands lies between two gray levels, and rounds with the order of its sum.
    """
    bundle = system_bundle(name)
    whole = enlarge(photo, tmp_path / "whole", bundle)
    assert whole.shape == (363, 60, 3)
    monkeypatch.setattr(planning, "_WHOLE_LIMIT_BYTES", 0)
    monkeypatch.setattr(planning, "_FIXED_BYTES", 0)
    config = bundle.card.config
    rows = config.row_multiple + 2 * planning.system_halo_rows(config)
    is_finite = config.receptive_field_lr_px is not None
    plan = open_engine(bundle, precision="fp32").plan(121, 20)
    assert (plan.strip_rows < 121) == (is_finite and 2 * rows < 121)
    difference = np.abs(enlarge(photo, tmp_path / "strips", bundle).astype(int) - whole)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= difference.size / 1000


def test_alpha_gray_strength_and_resume_work_as_for_other_models(system_bundle, photo, tmp_path):
    bundle = system_bundle("lapsrn")
    with Image.open(photo) as image:
        image.convert("LA").save(tmp_path / "gray_alpha.png")
    gray = enlarge(tmp_path / "gray_alpha.png", tmp_path / "a", bundle)
    assert gray.shape == (363, 60, 2)
    half = enlarge(photo, tmp_path / "b", bundle, options=OutputOptions(strength=0.0))
    with Image.open(photo) as image:
        bicubic = np.array(image.resize((60, 363), Image.Resampling.BICUBIC))
    assert np.abs(half.astype(int) - bicubic).max() <= 1
    options = {"model": bundle.folder, "compute": FP32, "batch": BatchOptions(resume=True)}
    first = upscale_files([photo], tmp_path / "c", **options)
    again = upscale_files([photo], tmp_path / "c", **options)
    assert ([len(each.done) for each in (first, again)]) == [1, 0]


@pytest.mark.parametrize("name", ["predictions", "weight_maps", "disagreement", "uncertainty"])
def test_maps_of_predictions_are_refused(system_bundle, photo, tmp_path, name):
    bundle, options = system_bundle("edsr"), OutputOptions(**{name: True})
    with pytest.raises(UsageError, match="has one prediction, its result"):
        upscale_files([photo], tmp_path / "out", model=bundle.folder, options=options)
    assert not (tmp_path / "out").exists()


def test_prediction_in_python_is_refused_and_upscaling_is_not(system_bundle, photo):
    model = load(system_bundle("edsr").folder, precision="fp32")
    assert model.upscale(photo).shape == (363, 60, 3)
    with pytest.raises(UsageError, match="has one prediction"):
        model.predict(photo)


@pytest.mark.parametrize(("name", "part"), [("rcan", "sees as a whole"), ("edsr", "6 rows to")])
def test_too_little_memory_is_one_message_with_what_is_missing(system_bundle, name, part):
    engine = open_engine(system_bundle(name), precision="fp32", memory=1 << 20)
    with pytest.raises(UsageError, match=rf"leaves 0 .*{part}.* Allow [\d.]+ .iB more") as caught:
        engine.plan(3000, 4000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["onnxruntime", "torch", "reference"])
@pytest.mark.parametrize("name", ["lpkpn", "span", "srflow"])
def test_every_backend_gives_the_same_image(system_bundle, photo, tmp_path, name, backend):
    bundle = system_bundle(name)
    expected = enlarge(photo, tmp_path / "a", bundle).astype(int)
    compute = ComputeOptions(backend=backend, precision="fp32")
    upscale_files([photo], tmp_path / "b", model=bundle.folder, compute=compute)
    (written,) = (tmp_path / "b").glob("*.png")
    with Image.open(written) as image:
        assert np.abs(np.array(image) - expected).max() <= 1  # of 255: of values near a half
