"""Calibration of perfect, of useless and without disagreement."""

import numpy as np
import pytest

from d2csr.evaluation.systems import Upscaled
from d2csr.evaluation.uncertainty import calibrate, summarize
from tests.evaluation.conftest import scene


def sr_with_errors(hr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An SR whose error grows from left to right, and that error's size."""
    size = np.linspace(0, 20, hr.shape[1])[None, :, None] * np.ones(hr.shape)
    signs = np.random.default_rng(0).choice([-1, 1], size=hr.shape)
    sr = np.clip(hr + size * signs, 0, 255).round()
    return sr.astype(np.uint8), np.sqrt(np.mean((sr - hr) ** 2, axis=2))


def scores_of(upscaled: Upscaled, hr: np.ndarray) -> dict[str, tuple[float, float]]:
    calibration = calibrate(upscaled, hr, name="one", border_px=2)
    return {score.predictor: (score.spearman, score.ause) for score in calibration.scores}


def test_disagreement_that_is_the_error_ranks_it_almost_perfectly():
    hr = scene(0, side_px=76)
    sr, error = sr_with_errors(hr)
    spearman, ause = scores_of(Upscaled(sr, error), hr)["disagreement"]
    assert spearman > 0.99
    assert 0 <= ause < 0.01


def test_disagreement_that_is_the_opposite_of_the_error_ranks_it_backwards():
    hr = scene(0, side_px=76)
    sr, error = sr_with_errors(hr)
    scores = scores_of(Upscaled(sr, error.max() - error), hr)
    assert scores["disagreement"][0] < -0.99
    assert scores["disagreement"][1] > scores["gradient"][1] > 0


def test_means_and_curves_are_over_the_images():
    hr = scene(0, side_px=76)
    sr, error = sr_with_errors(hr)
    images = [
        calibrate(Upscaled(sr, values), hr, name=name, border_px=2)
        for name, values in (("one", error), ("two", np.ones_like(error)))
    ]
    summary = summarize("m", images, weights_sha256="0" * 64)
    assert [(score.name, score.predictor) for score in summary.images] == [
        (name, predictor) for name in ("one", "two") for predictor in ("disagreement", "gradient")
    ]
    gradient = [score.ause for score in summary.images if score.predictor == "gradient"]
    assert summary.mean[1].ause == pytest.approx(sum(gradient) / 2)
    assert [curve.order for curve in summary.curves] == ["disagreement", "gradient", "error"]
    assert all(len(curve.rmse) == len(curve.removed) == 20 for curve in summary.curves)
    whole = {curve.rmse[0] for curve in summary.curves}
    assert max(whole) - min(whole) < 1e-9


def test_one_prediction_has_no_calibration():
    hr = scene(0)
    with pytest.raises(ValueError, match="one prediction"):
        calibrate(Upscaled(hr), hr, name="one", border_px=2)
