"""Disagreement against its formula in loops, and against cases done by hand."""

import numpy as np

from d2csr.engine.disagreement import disagreement
from d2csr.engine.output import EngineOutput


def _output(predictions: np.ndarray, weights: np.ndarray) -> EngineOutput:
    sr = (predictions * weights[..., None]).sum(0)
    return EngineOutput(*(each.astype(np.float32) for each in (sr, predictions, weights)))


def test_it_is_the_weighted_standard_deviation_in_grey_levels():
    random = np.random.default_rng(0)
    predictions, weights = random.random((4, 3, 5, 3)), random.random((4, 3, 5))
    output = _output(predictions, weights / weights.sum(0))
    wanted = np.zeros((3, 5))
    for y in range(3):
        for x in range(5):
            for leaf in range(4):
                for colour in range(3):
                    error = output.predictions[leaf, y, x, colour] - output.sr[y, x, colour]
                    wanted[y, x] += float(output.weights[leaf, y, x]) * float(error) ** 2 / 3
    assert np.allclose(disagreement(output), 255 * np.sqrt(wanted), rtol=1e-5)


def test_predictions_that_agree_have_none():
    assert not disagreement(_output(np.full((2, 1, 1, 3), 0.5), np.full((2, 1, 1), 0.5))).any()


def test_two_equal_shares_ten_levels_apart_disagree_by_five():
    predictions = np.array([100, 110]).reshape(2, 1, 1, 1) / 255 * np.ones((1, 1, 1, 3))
    assert np.allclose(disagreement(_output(predictions, np.full((2, 1, 1), 0.5))), 5, atol=1e-4)
