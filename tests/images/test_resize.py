"""Resizing against MATLAB's published images, loops, Pillow, and known scores."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from d2csr.images.reader import read_rgb8
from d2csr.images.resize import (
    cubic,
    cubic_weights,
    enlarge_bicubic,
    enlarge_lanczos,
    lanczos3,
    resize_bicubic,
)
from d2csr.metrics.protocols import LUMA, to_channels

RGB = np.random.default_rng(0).integers(0, 256, (11, 14, 3), np.uint8)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_set5_is_reduced_as_matlab_reduced_it(data_folder, scale):
    """One gray level off on less than 1% of pixels is allowed; no pixel is."""
    for path in sorted((data_folder / "benchmarks/Set5/HR").iterdir()):
        hr = read_rgb8(path)
        height, width = (side // scale * scale for side in hr.shape[:2])
        published = path.parents[1] / f"LR_bicubic/X{scale}/{path.stem}x{scale}.png"
        reduced = resize_bicubic(hr[:height, :width], scale=Fraction(1, scale))
        assert np.array_equal(reduced, read_rgb8(published)), path.stem


@pytest.mark.parametrize(
    ("folder", "scale", "psnr_db"),
    [
        ("nikon_d5500_x3/test", 3, [28.29, 29.80, 26.10, 30.21, 24.21]),
        ("iphone_x_x2/test", 2, [25.04, 27.01, 22.21, 26.61, 21.65]),
    ],
)
def test_the_baseline_scores_what_was_measured_on_city100(data_folder, folder, scale, psnr_db):
    scored = []
    for path in sorted((data_folder / "city100" / folder).glob("*_HR.webp")):
        hr = read_rgb8(path)
        lr = read_rgb8(path.with_name(path.name.replace("_HR", f"_LR{scale}")))
        inner = slice(scale, -scale)
        error = (_luma(enlarge_bicubic(lr, scale)) - _luma(hr))[inner, inner]
        scored.append(10 * np.log10(255**2 / np.mean(error**2)))
    assert scored == pytest.approx(psnr_db, abs=0.0051)


def _luma(rgb8):
    return to_channels(rgb8.astype(np.float64), LUMA, offset=16.0)[0]


def looped(row, out_length, factor):
    """One row of imresize, sample by sample, in doubles."""
    stretch, result = min(factor, 1.0), []
    for place in range(out_length):
        centre = (place + 0.5) / factor - 0.5
        total = weights = 0.0
        for tap in range(int(centre - 3 / stretch) - 1, int(centre + 3 / stretch) + 2):
            x = abs(centre - tap) * stretch
            near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            weight = near if x <= 1 else far if x < 2 else 0.0
            mirrored = tap
            while not 0 <= mirrored < len(row):
                mirrored = -1 - mirrored if mirrored < 0 else 2 * len(row) - 1 - mirrored
            total += weight * row[mirrored]
            weights += weight
        result.append(total / weights)
    return result


@given(st.integers(1, 9), st.fractions(Fraction(1, 5), 5, max_denominator=6))
def test_taps_and_weights_are_those_of_the_loop(length, factor):
    row = RGB[0, :length, 0].astype(float)
    out_length = int(np.ceil(length * factor))
    places, weights = cubic_weights(length, out_length, factor=float(factor))
    assert (row[places] * weights).sum(axis=1) == pytest.approx(
        looped(row, out_length, float(factor)), abs=1e-9
    )


@pytest.mark.parametrize("scale", [Fraction(1, 8), Fraction(1, 3), 0.5, 2.5, 8, (5, 20)])
def test_an_even_image_stays_even(scale):
    assert np.unique(resize_bicubic(np.full((16, 24, 3), 77, np.uint8), scale=scale)) == [77]


def test_the_result_has_the_size_asked_for():
    assert resize_bicubic(RGB, scale=Fraction(1, 3)).shape == (4, 5, 3)
    assert resize_bicubic(RGB, scale=(7, 9)).shape == (7, 9, 3)
    assert enlarge_bicubic(RGB, 3).shape == (33, 42, 3)
    assert np.array_equal(resize_bicubic(RGB, scale=1), RGB)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_enlarging_does_not_shift(scale):
    assert np.array_equal(
        enlarge_bicubic(RGB[::-1, ::-1], scale), enlarge_bicubic(RGB, scale)[::-1, ::-1]
    )


def test_the_kernel_passes_through_the_samples():
    assert cubic(np.arange(-3.0, 4.0)).tolist() == [0, 0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_lanczos_is_that_of_pillow_inside_the_frame(scale):
    """Pillow rounds its weights, and cuts the kernel at the frame instead of mirroring the image.

    It resizes the columns first, and rounds between the two passes as well.
    """
    turned = np.ascontiguousarray(RGB.swapaxes(0, 1))
    size = (RGB.shape[0] * scale, RGB.shape[1] * scale)
    expected = np.asarray(Image.fromarray(turned).resize(size, Image.Resampling.LANCZOS))
    inner = slice(3 * scale, -3 * scale)
    difference = enlarge_lanczos(RGB, scale).swapaxes(0, 1) - expected.astype(int)
    assert np.abs(difference[inner, inner]).max() <= 1


def test_lanczos_is_the_sum_of_its_definition():
    """At x3, sample by sample in both directions, the image mirrored at its frame."""
    mirrored = np.pad(RGB.astype(float), ((3, 3), (3, 3), (0, 0)), mode="symmetric")

    def weights(place):
        distance = [(place + 0.5) / 3 - 0.5 - tap for tap in range(-3, 14 + 3)]
        lobes = [
            1.0 if x == 0 else 3 * np.sin(np.pi * x) * np.sin(np.pi * x / 3) / (np.pi * x) ** 2
            for x in distance
        ]
        kept = [lobe if abs(x) < 3 else 0.0 for lobe, x in zip(lobes, distance, strict=True)]
        return np.array(kept) / sum(kept)

    found = enlarge_lanczos(RGB, 3)
    assert found.shape == (33, 42, 3)
    for row, column in ((0, 0), (16, 21), (32, 1), (5, 41)):
        down, right = weights(row)[:17], weights(column)
        between = np.floor(np.clip(np.tensordot(down, mirrored, 1), 0, 255) + 0.5)
        expected = np.floor(np.clip(np.tensordot(right, between, 1), 0, 255) + 0.5)
        assert np.abs(found[row, column] - expected).max() <= 1e-9


def test_the_lanczos_kernel_passes_through_the_samples_too():
    assert lanczos3(np.arange(-4.0, 5.0)) == pytest.approx([0, 0, 0, 0, 1, 0, 0, 0, 0])
    assert lanczos3(np.array([-3.5, 3.2])).tolist() == [0, 0]
