"""Calibration of perfect and of useless predictors, and of none."""

import numpy as np
import pytest

from d2csr.evaluation.systems import Upscaled
from d2csr.evaluation.uncertainty import Reliability, calibrate, reliability_table, summarize
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


def test_uncertainty_that_is_the_error_is_reliable_in_every_tenth():
    hr = scene(0, side_px=128)
    sr, _ = sr_with_errors(hr)
    error = np.abs(sr.astype(float) - hr).mean(axis=2)
    for factor in (1.0, 0.5):
        upscaled = Upscaled(sr, error[::-1], factor * error)
        summary = summarize(
            "m", [calibrate(upscaled, hr, name="one", border_px=2)] * 2, weights_sha256=None
        )
        assert [score.predictor for score in summary.mean] == [
            "uncertainty",
            "disagreement",
            "gradient",
        ]
        assert summary.mean[0].spearman > 0.99
        assert [each.ratio for each in summary.reliability] == pytest.approx([factor] * 10)
        assert sum(each.blocks for each in summary.reliability) == 2 * 20 * 20


def test_reliability_is_over_the_blocks_of_all_images_in_the_order_of_expectation():
    first = Reliability(np.array([1.0, 9.0]), np.array([2.0, 9.0]))
    second = Reliability(np.array([5.0]), np.array([0.0]))
    rows = reliability_table([first, second])
    assert [(row.expected, row.observed, row.blocks) for row in rows] == [
        (1.0, 2.0, 1), (5.0, 0.0, 1), (9.0, 9.0, 1),
    ]  # fmt: skip
    assert (rows[0].ratio, rows[2].ratio) == (0.5, 1.0)
    assert np.isnan(rows[1].ratio)


def test_a_model_without_an_error_model_has_no_reliability_table():
    hr = scene(0)
    sr, error = sr_with_errors(hr)
    calibration = calibrate(Upscaled(sr, error), hr, name="one", border_px=2)
    assert summarize("m", [calibration], weights_sha256=None).reliability == []
