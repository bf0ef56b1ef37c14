"""Disagreement against its formula in loops, and against cases done by hand."""

import numpy as np

from d2csr.engine.tail import EngineOutput, disagreement


def _output(predictions: np.ndarray, weights: np.ndarray) -> EngineOutput:
    sr = (predictions * weights[..., None]).sum(0)
    return EngineOutput(*(each.astype(np.float32) for each in (sr, predictions, weights)))


def test_it_is_the_standard_deviation_in_gray_levels_whatever_the_weights():
    random = np.random.default_rng(0)
    predictions, weights = random.random((4, 3, 5, 3)), random.random((4, 3, 5))
    output = _output(predictions, weights / weights.sum(0))
    expected = np.zeros((3, 5))
    for y in range(3):
        for x in range(5):
            for color in range(3):
                values = [float(output.predictions[leaf, y, x, color]) for leaf in range(4)]
                mean = sum(values) / 4
                expected[y, x] += sum((value - mean) ** 2 for value in values) / 4 / 3
    assert np.allclose(disagreement(output), 255 * np.sqrt(expected), rtol=1e-5)


def test_a_fusion_that_takes_one_prediction_hides_no_disagreement():
    predictions = np.array([100, 110]).reshape(2, 1, 1, 1) / 255 * np.ones((1, 1, 1, 3))
    weights = np.array([1.0, 0.0]).reshape(2, 1, 1)
    assert np.allclose(disagreement(_output(predictions, weights)), 5, atol=1e-4)


def test_predictions_that_agree_have_none():
    assert not disagreement(_output(np.full((2, 1, 1, 3), 0.5), np.full((2, 1, 1), 0.5))).any()


def test_two_equal_shares_ten_levels_apart_disagree_by_five():
    predictions = np.array([100, 110]).reshape(2, 1, 1, 1) / 255 * np.ones((1, 1, 1, 3))
    assert np.allclose(disagreement(_output(predictions, np.full((2, 1, 1), 0.5))), 5, atol=1e-4)
