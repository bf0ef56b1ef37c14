"""Losses of CDC against the authors' values and OpenCV, of LP-KPN against the sum in loops."""

import cv2
import numpy as np
import pytest
import torch

from d2csr.losses.components import (
    component_loss,
    component_masks,
    gradient_weighted_loss,
    harris_response,
    masked_l1,
    pyramid_loss,
)


@pytest.fixture(scope="module")
def values(data_folder) -> dict[str, torch.Tensor]:
    with np.load(data_folder / "systems" / "CDC.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays
                if name.startswith(("loss_", "mask_"))}  # fmt: skip


def test_masks_are_those_of_the_authors_code(values):
    response = values["mask_harris"]
    found = harris_response(values["loss_hr"])
    torch.testing.assert_close(found, response, rtol=1e-5, atol=1e-5 * float(response.max()))
    for name, mask in zip(
        ("flat", "edge", "corner"), component_masks(values["loss_hr"]), strict=True
    ):
        assert torch.equal(mask.float(), values[f"mask_{name}"])


def test_the_response_is_opencvs():
    hr = torch.rand(1, 3, 9, 13)
    weights = torch.tensor([0.257, 0.564, 0.098]).view(3, 1, 1)
    luma = (255 * ((hr[0] * weights).sum(0) + 16 / 255)).numpy()
    expected = torch.from_numpy(cv2.cornerHarris(luma, 3, 3, 0.04))
    found = harris_response(hr)[0, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_losses_have_the_authors_values(values):
    sr, hr = values["loss_sr"], values["loss_hr"]
    weights = {"flat": 1, "edge": 2, "corner": 5}
    for (name, weight), mask in zip(weights.items(), component_masks(hr), strict=True):
        found = weight * masked_l1(sr, hr, mask=mask)
        torch.testing.assert_close(found, values[f"loss_{name}"], rtol=1e-5, atol=0)
    found = gradient_weighted_loss(sr, hr)
    torch.testing.assert_close(found, values["loss_gw"], rtol=1e-5, atol=0)
    found = component_loss((sr, sr, sr, sr), hr)
    torch.testing.assert_close(found, values["loss_total"], rtol=1e-5, atol=0)


def test_each_component_is_trained_inside_its_own_mask(values):
    hr = values["loss_hr"]
    images = [(hr + 0.1).requires_grad_() for _ in range(4)]
    component_loss(tuple(images), hr).backward()
    for image, mask in zip(images, component_masks(hr), strict=False):
        assert torch.equal(image.grad.abs().amax(dim=1, keepdim=True) > 0, mask)


def test_the_pyramid_loss_is_half_the_squares_of_all_levels_per_image():
    levels = [torch.rand(2, 1, 4, 8), torch.rand(2, 1, 2, 4), torch.rand(2, 1, 1, 2)]
    target = [torch.rand_like(level) for level in levels]
    expected = 0.0
    for level, wanted in zip(levels, target, strict=True):
        for found, value in zip(level.flatten().tolist(), wanted.flatten().tolist(), strict=True):
            expected += (found - value) ** 2 / 2 / 2
    assert float(pyramid_loss(levels, target)) == pytest.approx(expected, rel=1e-5)
