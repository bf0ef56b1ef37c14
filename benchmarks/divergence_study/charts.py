"""A chart of predictions: SR of one crop by every variant, and how each prediction differs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import pyplot
from matplotlib.axes import Axes

from d2csr.engine.tail import EngineOutput

CROP_LR_PX = 48
GAIN = 8  # of the differences, which are a few gray levels
_MOST_PREDICTIONS = 4
_SIDE_INCH, _TITLE_INCH, _DPI = 1.6, 0.15, 100


def draw_predictions(
    outputs: Mapping[str, EngineOutput],
    hr: UInt8[np.ndarray, "h w 3"],
    *,
    path: Path,
    corner: tuple[int, int],
    side_px: int,
) -> None:
    """Write the chart: a row per variant with SR, its error, and the predictions' differences.

    Args:
        outputs: by the titles of the variants.
        hr: the true image.
        path: of the file.
        corner: row and column of the crop in SR pixels.
        side_px: of the crop.
    """
    crop = np.s_[corner[0] : corner[0] + side_px, corner[1] : corner[1] + side_px]
    columns = 2 + _MOST_PREDICTIONS
    size = (_SIDE_INCH * columns, (_SIDE_INCH + _TITLE_INCH) * len(outputs))
    figure, grid = pyplot.subplots(len(outputs), columns, figsize=size, layout="constrained")
    for row, (title, output) in zip(np.atleast_2d(grid), outputs.items(), strict=True):
        sr = output.sr[crop]
        _show(row[0], sr.clip(0, 1), title=title)
        _show(row[1], _amplified(sr - hr[crop] / 255), title=f"SR - HR, x{GAIN}")
        for index, axes in enumerate(row[2:]):
            if len(output.predictions) > max(1, index):
                difference = output.predictions[index][crop] - output.predictions[:, *crop].mean(0)
                name = f"prediction {index + 1} - mean, x{GAIN}"
                _show(axes, _amplified(difference), title=name)
            else:
                axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI, pil_kwargs={"quality": 80})
    pyplot.close(figure)


def _show(axes: Axes, image: Float[np.ndarray, "h w 3"], *, title: str) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.set_title(title, fontsize=6)
    axes.set_axis_off()


def _amplified(difference: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Return a signed difference as an image, 0 as middle gray."""
    return np.clip(0.5 + GAIN * difference, 0, 1)
