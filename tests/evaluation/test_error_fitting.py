"""Fitting of the error model: against scipy, on errors that are known, and on pairs."""

import shutil

import numpy as np
import pytest
from scipy.optimize import isotonic_regression, minimize

from d2csr.core.errors import D2csrError
from d2csr.engine.engine import open_engine
from d2csr.evaluation.error_fitting import (
    calibrate,
    fit_bundle,
    gamma_regression,
    isotonic,
    open_sets,
    sample_image,
)
from d2csr.metrics.sparsification import BLOCK_PX
from tests.evaluation.conftest import SCALE, make_pairs, scene
from tests.tiny_models import tiny_bundle


def test_isotonic_is_scipys():
    generator = np.random.default_rng(0)
    values, weight = generator.normal(size=40).cumsum(), generator.uniform(0.1, 1, 40)
    wanted = isotonic_regression(values, weights=weight).x
    assert np.allclose(isotonic(values, weight=weight), wanted)


def test_the_regression_minimizes_the_gamma_deviance():
    generator = np.random.default_rng(0)
    table = np.stack([np.ones(3000), *generator.normal(size=(2, 3000))])
    truth = np.array([1.0, 0.5, -0.3])
    error = np.exp(truth @ table) * generator.gamma(2.0, 0.5, 3000)
    weight = generator.uniform(0.5, 1.5, 3000)
    weight /= weight.sum()

    def deviance(coefficients: np.ndarray) -> float:
        logarithm = coefficients @ table
        return weight @ (error * np.exp(-logarithm) + logarithm)

    found = gamma_regression(table, error, weight=weight)
    assert np.allclose(found, minimize(deviance, np.zeros(3)).x, atol=2e-3)  # but for the ridge
    assert np.allclose(found, truth, atol=0.06)


def test_calibration_undoes_a_wrong_scale_and_never_falls():
    generator = np.random.default_rng(0)
    true = generator.uniform(1, 20, 20_000)
    weight = np.full(len(true), 1 / len(true))
    observed = true * generator.gamma(2.0, 0.5, len(true))
    knots, levels = calibrate(true**0.5, observed, weight=weight)
    middle = np.sqrt(np.linspace(2, 19, 9))
    assert np.allclose(np.interp(middle, knots, levels), middle**2, rtol=0.06)
    assert (np.diff(knots) > 0).all()
    assert (np.diff(levels) >= 0).all()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory):
    """A bundle of a small random network, x2."""
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny", base="bicubic")


def test_a_sample_has_the_error_of_blocks_one_lr_pixel_from_the_border(bundle):
    hr = scene(0, side_px=48)
    lr = np.ascontiguousarray(hr[::2, ::2])
    sample = sample_image(open_engine(bundle, precision="fp32"), lr, hr=hr)
    assert sample.features.shape == (9, 22, 22)
    from d2csr.engine.model import Model  # the same SR by another way

    sr = Model(bundle, open_engine(bundle, precision="fp32")).upscale(lr)
    error = np.abs(sr.astype(float) - hr).mean(axis=2)[SCALE:-SCALE, SCALE:-SCALE]
    assert np.allclose(sample.error[3, 5], error[6:8, 10:12].mean(), atol=1e-4)
    side = 44 // BLOCK_PX
    assert np.allclose(sample.blocks.reshape(side, side)[1, 2], error[6:12, 12:18].mean())


def test_fitting_a_bundle_is_repeatable_and_matches_the_mean_error(bundle, tmp_path):
    sets = open_sets([make_pairs(tmp_path / "a", range(20, 25))], scale=SCALE, splits=())
    fitted = fit_bundle(bundle, sets, data="scenes")
    assert fit_bundle(bundle, sets, data="scenes") == fitted
    assert (fitted.facts.images, fitted.facts.left_out) == (5, "images")
    assert set(fitted.facts.spearman) == {"uncertainty", "disagreement", "gradient"}
    engine = open_engine(bundle)
    hr = scene(20)
    sample = sample_image(engine, np.ascontiguousarray(hr[::2, ::2]), hr=hr)
    expected = fitted.model.predict(sample.features)
    assert expected.mean() == pytest.approx(sample.error.mean(), rel=0.2)


def test_several_sets_are_left_out_in_turn(bundle, tmp_path):
    folders = [make_pairs(tmp_path / name, range(3)) for name in ("a", "b")]
    sets = open_sets(folders, scale=SCALE, splits=())
    assert fit_bundle(bundle, sets, data="two sets").facts.left_out == "sets"


def test_splits_are_taken_together(pairs):
    (chosen,) = open_sets([pairs], scale=SCALE, splits=("test", "train"))
    assert len(chosen) == 7


def test_all_errors_of_the_pairs_are_found_before_any_work(pairs, tmp_path):
    with pytest.raises(D2csrError, match="3 pairs are too few"):
        open_sets([pairs], scale=SCALE, splits=("test",))
    damaged = tmp_path / "damaged"
    shutil.copytree(pairs / "train", damaged)
    (damaged / "scene_10_HR.png").write_bytes(b"")
    (damaged / "scene_11_LR2.png").write_bytes(b"")
    with pytest.raises(D2csrError, match="2 errors, nothing was fitted"):
        open_sets([damaged], scale=SCALE, splits=())
