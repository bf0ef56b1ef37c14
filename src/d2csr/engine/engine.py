"""Engine: a bundle's graphs run on one picture, the trunk whole, all behind it in row bands."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float32

from d2csr.core.bundle import Bundle
from d2csr.engine.backend import Graph, Planes, find_backend
from d2csr.engine.frame import paste_frame
from d2csr.engine.output import EngineOutput
from d2csr.engine.plan import Band, default_band_rows, plan_bands


class BandOutput(NamedTuple):
    """The SR rows of one band: where they begin in the SR picture, and what they are."""

    first_row: int
    output: EngineOutput


# Features and LR (1, c, h, w) of a band -> predictions (1, 3 p, S h, S w), weights, SR.
_Tail = Callable[[Planes, Planes], tuple[Planes, Planes, Planes]]


@final
class Engine:
    """Compiled graphs of one bundle."""

    def __init__(self, bundle: Bundle, *, trunk: Graph, tail: _Tail, band_rows: int) -> None:
        """Keep what `open_engine` made."""
        self.bundle = bundle
        self._trunk, self._tail, self._band_rows = trunk, tail, band_rows

    def with_bands(self, band_rows: int) -> "Engine":
        """Return an engine on the same compiled graphs with bands of so many LR rows."""
        return Engine(self.bundle, trunk=self._trunk, tail=self._tail, band_rows=band_rows)

    def run(self, lr01: Float32[np.ndarray, "h w 3"]) -> EngineOutput:
        """Return SR, predictions and weights of a picture of any size, RGB in 0..1."""
        scale, leaves = self.bundle.card.scale, self.bundle.card.config.leaves
        height, width = scale * lr01.shape[0], scale * lr01.shape[1]
        whole = EngineOutput(
            sr=np.empty((height, width, 3), np.float32),
            predictions=np.empty((leaves, height, width, 3), np.float32),
            weights=np.empty((leaves, height, width), np.float32),
        )
        for first, part in self.bands(lr01):
            last = first + part.sr.shape[0]
            whole.sr[first:last] = part.sr
            whole.predictions[:, first:last] = part.predictions
            whole.weights[:, first:last] = part.weights
        return whole

    def bands(self, lr01: Float32[np.ndarray, "h w 3"]) -> Iterator[BandOutput]:
        """Yield the same in bands, top to bottom, so that callers keep only what they need."""
        lr = np.ascontiguousarray(lr01.transpose(2, 0, 1)[None])
        (features,) = self._trunk([lr])
        card = self.bundle.card
        bands = plan_bands(
            lr.shape[2], band_rows=self._band_rows, halo_rows=card.reach.halo_lr_rows
        )
        for band in bands:
            rows = slice(band.top, band.bottom)
            planes = self._tail(_rows(features, rows), _rows(lr, rows))
            yield BandOutput(card.scale * band.first, _band_output(planes, band, scale=card.scale))


def open_engine(bundle: Bundle, *, backend: str = "auto", device: str = "auto") -> Engine:
    """Return an engine with a bundle's graphs compiled.

    Args:
        bundle: as `read_bundle` returns it.
        backend: a name of the backend table; `auto` takes the first.
        device: `auto`, `cpu`, `gpu`, or a GPU's index.

    Raises:
        UsageError: no such backend or device.
        BundleError: a graph can't be read.
    """
    compile_graph = find_backend(backend)
    return Engine(
        bundle,
        trunk=compile_graph(bundle.graph("trunk"), device),
        tail=_tail(bundle, lambda role: compile_graph(bundle.graph(role), device)),
        band_rows=default_band_rows(bundle.card.scale),
    )


def _tail(bundle: Bundle, compiled: Callable[[str], Graph]) -> _Tail:
    """Return everything behind the trunk as one function of a band."""
    card = bundle.card
    tail = compiled("tail")
    if "tail_frame" not in card.graphs:

        def plain(features: Planes, lr: Planes) -> tuple[Planes, Planes, Planes]:
            predictions, weights, sr = tail([features, lr])
            return predictions, weights, sr

        return plain
    tail_frame, fusion = compiled("tail_frame"), compiled("fusion")

    def framed(features: Planes, lr: Planes) -> tuple[Planes, Planes, Planes]:
        predictions = paste_frame(tail, tail_frame, features=features, lr=lr, card=card)
        weights, sr = fusion([predictions])
        return predictions, weights, sr

    return framed


def _rows(planes: Planes, rows: slice) -> Planes:
    return np.ascontiguousarray(planes[:, :, rows])


def _band_output(planes: tuple[Planes, Planes, Planes], band: Band, *, scale: int) -> EngineOutput:
    """Return a band's own rows, channels last, without the halo."""
    rows = slice(scale * (band.first - band.top), scale * (band.last - band.top))
    predictions, weights, sr = (each[0, :, rows] for each in planes)
    leaves = weights.shape[0]
    return EngineOutput(
        sr=sr.transpose(1, 2, 0),
        predictions=predictions.reshape(leaves, 3, *weights.shape[1:]).transpose(0, 2, 3, 1),
        weights=weights,
    )
