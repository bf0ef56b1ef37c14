"""Reconstruction losses against loops over single numbers."""

import math

import numpy as np
import pytest
import torch

from d2csr.losses.reconstruction import DISTANCES, predictions_loss, sr_loss
from tests.oracles import triplet as oracle

LITERAL = {
    "mse": lambda d: d * d,
    "l1": abs,
    "charbonnier": lambda d: math.sqrt(d * d + 1e-6),
}


def test_every_distance_has_an_oracle():
    assert set(DISTANCES) == set(LITERAL)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("leaves", [1, 4])
def test_predictions_loss_is_equation_1_in_loops(name, leaves):
    random = np.random.default_rng(leaves)
    predictions, hr = random.random((2, leaves, 3, 4, 5)), random.random((2, 3, 4, 5))
    expected = oracle.predictions_distance(predictions.tolist(), hr.tolist(), LITERAL[name])
    found = predictions_loss(torch.as_tensor(predictions), torch.as_tensor(hr), name=name)
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", DISTANCES)
def test_sr_loss_is_equation_9_in_loops(name):
    random = np.random.default_rng(7)
    sr, hr = random.random((2, 3, 4, 5)), random.random((2, 3, 4, 5))
    expected = oracle.predictions_distance(sr[:, None].tolist(), hr.tolist(), LITERAL[name])
    found = sr_loss(torch.as_tensor(sr), torch.as_tensor(hr), name=name)
    assert float(found) == pytest.approx(expected, rel=1e-9)
