"""Web images: reductions against Pillow's, histories by their shares, and codecs."""

from collections import Counter
from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from d2csr.core.geometry import Size
from d2csr.core.manifest import read_manifest
from d2csr.data.pairs import load_pair
from d2csr.images.resize import resize_bicubic
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.presets import PRESETS
from d2csr.simulate.scene import Procedural
from d2csr.simulate.web import WebConfig, WebHistory, draw_history, make_lr, reduce_image

WEB = PRESETS["web"][0][1]
PLAIN = WebHistory(1.0, ("cubic",), None, False, None, "none", 90, True)
RNG = np.random.default_rng(0)


def smooth(height: int, width: int) -> np.ndarray:
    """Return an image that all kernels treat alike up to their sharpness."""
    y, x = np.mgrid[:height, :width] / 9
    return np.stack([np.sin(x) * np.cos(y), np.sin(y), np.cos(x + y)], -1) / 2.5 + 0.5


@pytest.mark.parametrize(
    ("kernel", "known", "size"),
    [
        ("cubic", Image.Resampling.BICUBIC, Size(24, 16)),
        ("cubic", Image.Resampling.BICUBIC, Size(37, 29)),
        ("lanczos3", Image.Resampling.LANCZOS, Size(24, 16)),
        ("lanczos3", Image.Resampling.LANCZOS, Size(37, 29)),
        ("linear", Image.Resampling.BILINEAR, Size(24, 16)),
        ("linear", Image.Resampling.BILINEAR, Size(37, 29)),
        ("area", Image.Resampling.BOX, Size(24, 16)),  # at 37x29, Pillow's box takes whole pixels
    ],
)
def test_kernels_are_those_of_pillow(kernel, known, size):
    image = RNG.random((64, 96, 3)).astype(np.float32)
    found = reduce_image(image, size, kernel=kernel)
    bands = [Image.fromarray(image[..., c]).resize(size, known) for c in range(3)]
    expected = np.stack([np.asarray(band) for band in bands], -1)
    inside = np.s_[4:-4, 4:-4]  # edges are mirrored here, and cut off there
    assert np.abs(found - expected)[inside].max() < 0.01


def test_nearest_takes_the_middle_pixel_or_the_mean_of_the_middle_ones():
    image = RNG.random((12, 12, 3)).astype(np.float32)
    assert np.array_equal(reduce_image(image, Size(4, 4), kernel="nearest"), image[1::3, 1::3])
    middle = (image[1::4, 1::4] + image[2::4, 1::4] + image[1::4, 2::4] + image[2::4, 2::4]) / 4
    assert reduce_image(image, Size(3, 3), kernel="nearest") == pytest.approx(middle, abs=1e-6)


@pytest.mark.parametrize("kernel", WEB.kernels)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_reduction_is_centred(kernel, scale):
    """A shift of half a pixel would change a smooth image by more than its blur does."""
    hr = np.rint(smooth(120, 96) * 255).astype(np.uint8)
    lr = make_lr(hr, WebHistory(**asdict(PLAIN) | {"kernels": (kernel,)}), scale=scale)
    y, x = ((np.arange(n) + 0.5) * scale - 0.5 for n in lr.shape[:2])
    exact = np.stack(
        [
            np.sin(x / 9) * np.cos(y / 9)[:, None],
            np.broadcast_to(np.sin(y / 9)[:, None], lr.shape[:2]),
            np.cos((x + y[:, None]) / 9),
        ],
        -1,
    )
    assert np.abs(lr - 255 * (exact / 2.5 + 0.5))[2:-2, 2:-2].max() < 4


def test_the_bicubic_preset_is_matlab_s_imresize(tmp_path):
    options = SimulationOptions(4, mixture=PRESETS["bicubic"], val=0.0, test=0.0)
    simulate([Procedural(Size(300, 260), (0, 1))], tmp_path / "out", options=options)
    (pair,) = read_manifest(tmp_path / "out" / "manifest.json")
    lr, hr = load_pair(pair, scale=4)
    assert np.array_equal(lr, resize_bicubic(hr, scale=Fraction(1, 4)))


def test_histories_follow_the_shares():
    rng = np.random.default_rng(1)
    drawn = [draw_history(WEB, rng) for _ in range(4000)]

    def assert_share(found: int, share: float) -> None:
        assert abs(found / 4000 - share) < 5 * np.sqrt(share * (1 - share) / 4000)

    assert_share(sum(each.first_reduction is not None for each in drawn), WEB.twice)
    assert_share(sum(each.sharpening is not None for each in drawn), WEB.sharpened)
    assert_share(sum(each.linear_light for each in drawn), WEB.linear_light)
    for counts, shares in (
        (Counter(each.codec for each in drawn), WEB.codecs),
        (Counter(each.kernels[0] for each in drawn), WEB.kernels),
    ):
        for name, share in shares.items():
            assert_share(counts[name], share / sum(shares.values()))
    assert all(WEB.quality[0] <= each.quality <= WEB.quality[1] for each in drawn)
    assert {len(each.kernels) for each in drawn} == {1, 2}


def test_the_manifest_holds_the_history_that_made_each_image(tmp_path):
    options = SimulationOptions(2, mixture=PRESETS["web"], shots=6, val=0.0, test=0.0, seed=2)
    simulate([Procedural(Size(300, 280), (0, 1))], tmp_path / "out", options=options)
    for pair in read_manifest(tmp_path / "out" / "manifest.json"):
        drawn = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (pair.transform or {}).items()
            if name in asdict(PLAIN)
        }
        lr, hr = load_pair(pair, scale=2)
        assert np.array_equal(make_lr(hr, WebHistory(**drawn), scale=2), lr)


def test_linear_light_codecs_and_sharpening_have_their_effects():
    hr = RNG.integers(0, 256, (64, 64, 3), np.uint8)  # noise, so that means differ by encoding
    plain = make_lr(hr, PLAIN, scale=4).astype(float)

    def changed(**values: object) -> np.ndarray:
        return make_lr(hr, WebHistory(**asdict(PLAIN) | values), scale=4).astype(float)

    assert changed(linear_light=True).mean() > plain.mean() + 5
    assert changed(sharpening=(1.0, 1.0)).std() > 1.2 * plain.std()
    assert changed(first_reduction=2.0, kernels=("linear", "linear")).std() < plain.std()
    for codec in ("jpeg", "webp"):
        good, poor = (np.abs(changed(codec=codec, quality=q) - plain).mean() for q in (95, 20))
        assert 0 < good < poor


def test_a_web_image_needs_a_kernel_and_a_codec():
    with pytest.raises(ValueError, match="kernels"):
        WebConfig(codecs={"none": 1.0})
