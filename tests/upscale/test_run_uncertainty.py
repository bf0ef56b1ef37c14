"""The uncertainty map as a file: the map of the Python function, its legend and its note."""

import numpy as np
import pytest

from d2csr.core.bundle import Bundle
from d2csr.core.error_model import write_calibrated_bundle
from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.engine.model import load
from d2csr.images.reader import read_image, read_rgb8
from d2csr.images.writer import write_rgb8
from d2csr.upscale.legend import Legend, color_levels
from d2csr.upscale.options import OutputOptions
from d2csr.upscale.run import upscale_files
from tests.error_models import FACTS, random_error_model

LR8 = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
OPTIONS = OutputOptions(uncertainty=True)


@pytest.fixture
def photo(tmp_path):
    """A photo of noise."""
    write_rgb8(tmp_path / "a.png", LR8)
    return tmp_path / "a.png"


def test_the_file_is_the_map_above_its_legend(bundle: Bundle, photo, tmp_path):
    calibrated = write_calibrated_bundle(
        bundle, tmp_path / "m", model=random_error_model(), facts=FACTS
    )
    summary = upscale_files([photo], tmp_path / "out", model=calibrated, options=OPTIONS)
    assert summary.exit_code == 0
    path = tmp_path / "out" / "a_uncertainty.png"
    pixels, expected = read_rgb8(path), load(calibrated.folder).predict(LR8).uncertainty
    legend = Legend(Size(60, 80))
    assert pixels.shape[:2] == (legend.size.height, legend.size.width)
    assert np.array_equal(pixels[:80, :60], color_levels(expected))
    assert np.array_equal(pixels[80:], legend.rows())
    assert read_image(path).metadata.texts == (("Description", legend.note),)


def test_a_model_without_an_error_model_is_refused_before_any_work(bundle: Bundle, photo, tmp_path):
    with pytest.raises(UsageError, match="has no calibration to predict its error from"):
        upscale_files([photo], tmp_path / "out", model=bundle, options=OPTIONS)
    assert not (tmp_path / "out").exists()


def test_a_result_of_another_strength_has_no_map():
    with pytest.raises(UsageError, match="at strength 1"):
        OutputOptions(uncertainty=True, strength=0.5)
