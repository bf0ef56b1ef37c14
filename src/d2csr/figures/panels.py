"""Panels: the rows of images that a figure of the paper shows of each crop, drawn as one PNG."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from d2csr.core.files import atomic_path
from d2csr.figures.catalog import Kind
from d2csr.figures.crops import Crop, Scene
from d2csr.images.resize import enlarge_bicubic
from d2csr.metrics.protocols import PROTOCOLS, to_channels
from d2csr.speed.charts import require_matplotlib

_PANEL_INCHES = 1.9


class Panel(NamedTuple):
    """One image of a figure: RGB, or a map with the range of its colors."""

    title: str
    image: np.ndarray
    range: tuple[float, float] | None = None


Rows = Iterator[list[Panel]]


def make_rows(kind: Kind, scene: Scene, *, crop: Crop) -> list[list[Panel]]:
    """Return the rows of panels that a kind of figure shows of a crop."""
    return list(_KINDS[kind](scene, crop))


def _comparison(scene: Scene, crop: Crop) -> Rows:
    """Yield bicubic enlargement, SR of each model, and HR."""
    yield [
        Panel("bicubic", crop.of(scene.bicubic)),
        *(Panel(name, crop.of(scene.sr(name))) for name in scene.models),
        Panel("HR", crop.of(scene.hr)),
    ]


def _predictions(scene: Scene, crop: Crop) -> Rows:
    """Yield a row per model: bicubic enlargement, its predictions, its SR, and HR."""
    for name, model in scene.models.items():
        output = model.predict(scene.lr)
        yield [
            Panel("bicubic", crop.of(scene.bicubic)),
            *(
                Panel(f"{name}: {index}", crop.of(image))
                for index, image in enumerate(output.predictions, start=1)
            ),
            Panel(f"{name}: SR", crop.of(output.sr)),
            Panel("HR", crop.of(scene.hr)),
        ]


def _residuals(scene: Scene, crop: Crop) -> Rows:
    """Yield a row per model: HR and the error map of each prediction (Eq. 3)."""
    for name, model in scene.models.items():
        output = model.predict(scene.lr)
        maps = [np.abs(_standardize(each) - _standardize(scene.hr)) for each in output.predictions]
        top = float(max(crop.of(each).max() for each in maps)) or 1.0
        yield [
            Panel("HR", crop.of(scene.hr)),
            *(
                Panel(f"{name}: {index}", crop.of(each), (0.0, top))
                for index, each in enumerate(maps, start=1)
            ),
        ]


def _standardize(image: np.ndarray) -> Float32[np.ndarray, "h w"]:
    """Return an image's luma with mean 0 and deviation 1 (Eq. 2)."""
    rules = PROTOCOLS["y"]
    (luma,) = to_channels(image.astype(np.float64), rules.psnr_color, offset=rules.offset)
    return ((luma - luma.mean()) / max(float(luma.std()), 1e-12)).astype(np.float32)


def _weights(scene: Scene, crop: Crop) -> Rows:
    """Yield a row per model: SR and the weight of each prediction."""
    for name, model in scene.models.items():
        output = model.predict(scene.lr)
        top = float(max(crop.of(each).max() for each in output.weights))
        yield [
            Panel(f"{name}: SR", crop.of(output.sr)),
            *(
                Panel(f"weight {index}", crop.of(each), (0.0, top))
                for index, each in enumerate(output.weights, start=1)
            ),
        ]


def _degradation(scene: Scene, crop: Crop) -> Rows:
    """Yield HR, its bicubic reduction and the camera's LR, both enlarged."""
    yield [
        Panel("HR", crop.of(scene.hr)),
        Panel("bicubic LR", crop.of(enlarge_bicubic(scene.bicubic_lr, scene.scale))),
        Panel("real LR", crop.of(scene.bicubic)),
    ]


_KINDS: dict[Kind, Callable[[Scene, Crop], Rows]] = {
    "comparison": _comparison,
    "predictions": _predictions,
    "residuals": _residuals,
    "weights": _weights,
    "degradation": _degradation,
}


def draw_panels(rows: Sequence[Sequence[Panel]], path: Path, *, title: str) -> None:
    """Draw rows of panels under a title and write them as PNG.

    Raises:
        UsageError: matplotlib isn't installed.
    """
    require_matplotlib(path)
    from matplotlib import pyplot  # optional, and slow to import

    columns = max(map(len, rows))
    size = (_PANEL_INCHES * columns, 0.5 + (_PANEL_INCHES + 0.25) * len(rows))
    figure, grid = pyplot.subplots(
        len(rows), columns, figsize=size, layout="constrained", squeeze=False
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for line, panels in zip(grid, rows, strict=True):
        for axes, panel in zip(line, panels, strict=False):
            low, high = panel.range or (None, None)
            axes.imshow(panel.image, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
            axes.set_title(panel.title, fontsize=7)
    figure.suptitle(title, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    pyplot.close(figure)
