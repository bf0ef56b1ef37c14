"""Features of the expected error against scipy's filters."""

import numpy as np
from scipy.ndimage import uniform_filter

from d2csr.engine.tail import EngineOutput, StripOutput
from d2csr.engine.uncertainty import BlockMaps, block_means

SCALE = 3
LUMA = np.array([0.299, 0.587, 0.114])


def random_output(height: int = 20, width: int = 17) -> tuple[np.ndarray, EngineOutput]:
    """An LR image and an output that have nothing to do with each other."""
    generator = np.random.default_rng(0)
    lr01 = generator.uniform(size=(height, width, 3)).astype(np.float32)
    sr = generator.uniform(-0.1, 1.1, (height * SCALE, width * SCALE, 3)).astype(np.float32)
    predictions = (sr + generator.normal(0, 0.1, (4, *sr.shape))).astype(np.float32)
    return lr01, EngineOutput(sr, predictions, predictions[..., 0])


def mean(values: np.ndarray, side: int) -> np.ndarray:
    return uniform_filter(values, side, mode="nearest")


def blocks(values: np.ndarray) -> np.ndarray:
    height, width = values.shape
    return values.reshape(height // SCALE, SCALE, width // SCALE, SCALE).mean((1, 3))


def test_features_are_logarithms_of_filtered_block_means():
    lr01, output = random_output()
    luma = output.sr.clip(0, 1).astype(np.float64) @ LUMA * 255
    gradient = blocks(np.hypot(*np.gradient(luma)))
    disagreement = blocks((output.predictions.astype(np.float64) @ LUMA).std(0) * 255)
    level, square = blocks(luma), blocks(luma**2)
    change = np.abs(level - lr01 @ LUMA * 255)

    def contrast(side: int) -> np.ndarray:
        return 0.5 * np.log(mean(square, side) - mean(level, side) ** 2 + 0.09)

    wanted = [
        *(np.log(mean(gradient, side) + 0.05) for side in (1, 3, 15)),
        *(np.log(mean(disagreement, side) + 0.05) for side in (1, 15)),
        contrast(3),
        contrast(9),
        np.log(mean(change, 9) + 0.05),
        (mean(level, 3) - 128) / 128,
    ]
    maps = BlockMaps(lr01, scale=SCALE)
    maps.add(StripOutput(0, output))
    assert maps.complete_rows == 20
    assert np.allclose(maps.features(0, 20), wanted, atol=2e-4)
    assert np.array_equal(maps.features(5, 9), maps.features(0, 20)[:, 5:9])


def test_an_image_of_one_pixel_has_features():
    lr01, output = random_output(1, 1)
    maps = BlockMaps(lr01, scale=SCALE)
    maps.add(StripOutput(0, output))
    assert np.isfinite(maps.features(0, 1)).all()


def test_block_means_are_those_of_a_reshape():
    values = np.random.default_rng(0).normal(size=(12, 9)).astype(np.float32)
    assert np.allclose(block_means(values, SCALE), blocks(values), atol=1e-6)
