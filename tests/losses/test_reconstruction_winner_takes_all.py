"""The winner-takes-all loss against loops over single numbers, and its gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from d2csr.core.errors import D2csrError
from d2csr.losses.reconstruction import (
    DISTANCES,
    WtaConfig,
    patch_winners,
    predictions_loss,
    winner_takes_all_loss,
)
from tests.losses.test_reconstruction import LITERAL
from tests.oracles import winner_takes_all as oracle


def random_images(images, leaves, *, seed, size):
    """Return random predictions, each a different distance from its HR, and the HR."""
    random = np.random.default_rng(seed)
    hr = random.random((images, 3, *size))
    spread = random.random((images, leaves, 1, 1, 1))
    return hr[:, None] + spread * random.standard_normal((images, leaves, 3, *size)), hr


def loss(predictions, hr, name="l1", **settings):
    ours, true = torch.as_tensor(predictions), torch.as_tensor(hr)
    return winner_takes_all_loss(ours, true, name=name, settings=WtaConfig(**settings))


@given(
    name=st.sampled_from(list(DISTANCES)),
    images=st.integers(1, 3),
    leaves=st.integers(2, 5),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    epsilon=st.sampled_from([0.0, 0.05, 0.5]),
    patch_px=st.integers(1, 8),
    seed=st.integers(0, 2**16),
)
def test_loss_is_relaxed_winner_takes_all_in_loops(
    name, images, leaves, size, epsilon, patch_px, seed
):
    """Sizes that no patch divides, and patches larger than the image, are included."""
    predictions, hr = random_images(images, leaves, seed=seed, size=size)
    expected = oracle.winner_takes_all(
        predictions.tolist(), hr.tolist(), LITERAL[name], epsilon=epsilon, side=patch_px
    )
    found = loss(predictions, hr, name, epsilon=epsilon, patch_px=patch_px)
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", DISTANCES)
def test_equal_weights_give_equation_1(name):
    """Epsilon 0.5 gives two predictions the same weight: the scale is that of the sum."""
    predictions, hr = random_images(2, 2, seed=0, size=(8, 8))
    expected = predictions_loss(torch.as_tensor(predictions), torch.as_tensor(hr), name=name)
    found = loss(predictions, hr, name, epsilon=0.5, patch_px=4)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("name", DISTANCES)
def test_one_prediction_has_the_loss_of_equation_1(name):
    predictions, hr = random_images(2, 1, seed=0, size=(8, 8))
    expected = predictions_loss(torch.as_tensor(predictions), torch.as_tensor(hr), name=name)
    assert float(loss(predictions, hr, name)) == pytest.approx(float(expected), rel=1e-12)


def test_every_prediction_gets_its_share_of_the_gradient_in_each_patch():
    """Of L1, the gradient is the weight times a sign: all of it can be written down."""
    hr = torch.zeros(1, 3, 4, 8, dtype=torch.float64)
    predictions = torch.full((1, 3, 3, 4, 8), 0.5, dtype=torch.float64)
    predictions[0, 2, :, :, :4] = 0.25  # wins the left patch
    predictions[0, 0, :, :, 4:] = 0.25  # wins the right one
    predictions.requires_grad_()
    loss(predictions, hr, epsilon=0.2, patch_px=4).backward()
    per_value = predictions.grad * hr.numel() / 3  # of three predictions
    weights = torch.tensor([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]], dtype=torch.float64)
    expected = weights.T.repeat_interleave(4, dim=1)[:, None, None].expand(3, 3, 4, 8)
    torch.testing.assert_close(per_value[0], expected)


def test_winners_are_chosen_patch_by_patch():
    distance = torch.tensor([[[[1.0, 9.0, 5.0]], [[2.0, 2.0, 6.0]]]])
    assert patch_winners(distance, patch_px=2).tolist() == [[[1, 0]]]


def test_the_loss_of_a_batch_is_the_mean_of_its_images():
    """So several devices with a part of the batch each compute the same gradient."""
    predictions, hr = random_images(4, 4, seed=3, size=(9, 10))
    single = [float(loss(predictions[[n]], hr[[n]], patch_px=4)) for n in range(4)]
    assert float(loss(predictions, hr, patch_px=4)) == pytest.approx(np.mean(single), rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"epsilon": -0.1}, r"epsilon -0.1 is not in 0..0.5"),
        ({"epsilon": 0.6}, r"epsilon 0.6 is not in 0..0.5"),
        ({"patch_px": 0}, r"patch_px 0 is not at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, problem):
    with pytest.raises(D2csrError, match=problem):
        WtaConfig(**settings)
