"""Losses of the compared systems against their formulas in loops over single numbers."""

import numpy as np
import pytest
import torch

from d2csr.images.resize import cubic_weights
from d2csr.losses.systems import LOSSES
from d2csr.models.systems import SYSTEMS, build_system

HR = torch.rand(2, 1, 12, 8, dtype=torch.double)
OUTPUTS = tuple(torch.rand(2, 1, 12, 8, dtype=torch.double) for _ in range(4))
PROGRESS = 0.3


def squares(output, hr=HR):
    return [float(each) ** 2 for each in (output - hr).flatten()]


def mean(values):
    return sum(values) / len(values)


EXPECTED = {
    "mse": lambda: mean(squares(OUTPUTS[-1])),
    "l1": lambda: mean([value**0.5 for value in squares(OUTPUTS[-1])]),
    "recursive-supervision": lambda: (
        (1 - PROGRESS) * mean([mean(squares(output)) for output in OUTPUTS[:-1]])
        + PROGRESS * mean(squares(OUTPUTS[-1]))
    ),
    "multi-supervision": lambda: sum(sum(squares(output)) / (2 * 2) for output in OUTPUTS),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_loss_is_its_formula(name: str):
    found = LOSSES[name](OUTPUTS, HR, progress=PROGRESS)
    assert float(found) == pytest.approx(EXPECTED[name](), rel=1e-9)


def reduced(image: np.ndarray, scale: int) -> np.ndarray:
    """Return MATLAB's reduction of one channel, far from the border."""
    for axis in (0, 1):
        length = image.shape[axis]
        places, weights = cubic_weights(length, length // scale, factor=1 / scale)
        image = np.moveaxis(image, axis, 0)
        rows = [
            sum(w * image[p] for p, w in zip(places[row], weights[row], strict=True))
            for row in range(len(places))
        ]
        image = np.moveaxis(np.stack(rows), 0, axis)
    return image


def test_the_pyramid_is_compared_with_matlabs_reductions():
    """Flat borders, where MATLAB mirrors the image and torch cuts the kernel."""
    hr = torch.full((2, 1, 64, 64), 0.5, dtype=torch.double)
    hr[:, :, 24:40, 24:40] = torch.rand(2, 1, 16, 16, dtype=torch.double)
    outputs = [torch.rand(2, 1, side, side, dtype=torch.double) for side in (16, 32, 64)]
    total = 0.0
    for output, scale in zip(outputs, (4, 2, 1), strict=True):
        for image in range(2):
            target = hr[image, 0].numpy()
            target = target if scale == 1 else reduced(target, scale)
            for value in (output[image, 0].numpy() - target).flat:
                total += (value**2 + 1e-6) ** 0.5
    found = LOSSES["multi-scale-charbonnier"](outputs, hr, progress=0.5)
    assert float(found) == pytest.approx(total / 2, rel=1e-9)


MODULES = ("adversarial", "likelihood")  # their losses need more than outputs and HR


def test_every_loss_of_the_table_of_systems_exists():
    assert {spec.loss for spec in SYSTEMS.values()} - {"none", *MODULES} <= LOSSES.keys()
    assert {"multi-scale-charbonnier", *EXPECTED} <= LOSSES.keys()


@pytest.mark.parametrize("name", [name for name, spec in SYSTEMS.items() if spec.loss in LOSSES])
def test_every_weight_of_a_system_gets_a_gradient(name: str):
    spec = SYSTEMS[name]
    for scale in spec.scales[:2]:
        network = build_system(name, scale=scale).train()
        hr = torch.rand(2, 3, 8 * scale, 8 * scale)
        outputs = network.training_outputs(torch.rand(2, 3, 8, 8))
        LOSSES[spec.loss](outputs, network.training_target(hr), progress=0.5).backward()
        trained = [item for item in network.named_parameters() if item[1].requires_grad]
        assert [name for name, value in trained if value.grad is None] == []
