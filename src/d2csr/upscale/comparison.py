"""Comparisons: bicubic and SR side by side, as a labelled image or as a page with a slider.

A page is one file: its images, style and script are inside, and it fetches nothing.
"""

import base64
import html
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any, Final, final

import numpy as np

from d2csr.core.files import atomic_path
from d2csr.core.geometry import Size
from d2csr.images.formats import PixelFormat
from d2csr.images.metadata import ImageMetadata
from d2csr.images.writer import ImageWriter
from d2csr.upscale.legend import render_text

_GAP_PX: Final = 8  # between the two images
_MARGIN: Final = 4  # around labels, in pixels of their letters
_WIDTH_PER_PIXEL: Final = 160  # of an image, for each pixel that a letter's pixel takes
_MAX_MAGNIFICATION: Final = 12
_CHUNK_BYTES: Final = 3 << 18  # divisible by 3, so that chunks in base64 can be joined

Rows = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True)
class Comparison:
    """What is compared, and the file that shows it.

    Attributes:
        path: the file; `.html` makes a page, other suffixes an image.
        size: of each of the two images.
        pixel_format: of both.
        labels: their names.
        icc: color profile of both; None for sRGB.
        quality: of lossy compression; None is the format's default.
    """

    path: Path
    size: Size
    pixel_format: PixelFormat
    labels: tuple[str, str]
    icc: bytes | None = None
    quality: int | None = None

    def open(self) -> "ComparisonImage | ComparisonPage":
        """Return the writer of the file, to be used as a context manager."""
        return ComparisonPage(self) if self.path.suffix == ".html" else ComparisonImage(self)

    def side_by_side(self, left: Rows, right: Rows) -> Rows:
        """Return rows of both images with white between them, as the writers take them."""
        return np.concatenate([left, self._white(len(left), _GAP_PX), right], axis=1)

    @property
    def metadata(self) -> ImageMetadata:
        """Return the metadata of the file: the color profile alone."""
        return ImageMetadata(icc=self.icc)

    @cached_property
    def header(self) -> Rows:
        """Return the rows above the images: a label above each, black on white."""
        inks = [render_text(label) for label in self.labels]
        fitting = min(self.size.width // (ink.shape[1] + 2 * _MARGIN) for ink in inks)
        wanted = min(self.size.width // _WIDTH_PER_PIXEL, _MAX_MAGNIFICATION)
        unit = max(1, min(wanted, fitting))
        margin = unit * _MARGIN
        rows = self._white(unit * inks[0].shape[0] + 2 * margin, self.full_width)
        for ink, left in zip(inks, (0, self.size.width + _GAP_PX), strict=True):
            large = ink.repeat(unit, 0).repeat(unit, 1)[:, : max(0, self.size.width - margin)]
            columns = slice(left + margin, left + margin + large.shape[1])
            colors = rows[margin:-margin, columns, : self.pixel_format.color_channels]
            colors[large] = 0
        return rows

    @property
    def full_width(self) -> int:
        """Return the width of both images and the gap."""
        return 2 * self.size.width + _GAP_PX

    def _white(self, rows: int, width: int) -> Rows:
        pixels = self.pixel_format
        return np.full((rows, width, pixels.channels), pixels.white, pixels.dtype)


@final
class ComparisonImage:
    """Writes the labels, and below them both images side by side."""

    def __init__(self, comparison: Comparison) -> None:
        """Prepare to write; no file is created yet.

        Raises:
            ImageError: the image is too large for its format.
        """
        self._header = comparison.header
        height = len(self._header) + comparison.size.height
        self._writer = ImageWriter(
            comparison.path,
            size=Size(comparison.full_width, height),
            pixel_format=comparison.pixel_format,
            metadata=comparison.metadata,
            quality=comparison.quality,
        )

    def __enter__(self) -> "ComparisonImage":
        """Start the encoder with the labels."""
        self._writer.__enter__()
        self._writer.write(self._header)
        return self

    def write(self, rows: Rows) -> None:
        """Queue the next rows of `Comparison.side_by_side`."""
        self._writer.write(rows)

    def __exit__(  # noqa: PLR0917 - the signature of the protocol
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Complete the file; after an error, remove it."""
        self._writer.__exit__(kind, error, trace)


@final
class ComparisonPage:
    """Writes a page of HTML: both images over each other, with a slider between them.

    The images are JPEG where the quality of the result is given, otherwise PNG, which every browser
    shows. They are encoded strip by strip into a temporary folder and copied into the page.
    """

    def __init__(self, comparison: Comparison) -> None:
        """Prepare to write; no file is created yet."""
        self._comparison = comparison
        self._cleanup = ExitStack()
        self._writers: list[ImageWriter] = []

    def __enter__(self) -> "ComparisonPage":
        """Start both encoders."""
        folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory()))
        compared = self._comparison
        is_lossy = compared.quality is not None and not compared.pixel_format.has_alpha
        for name in ("bicubic", "sr"):
            writer = ImageWriter(
                folder / f"{name}{'.jpg' if is_lossy else '.png'}",
                size=compared.size,
                pixel_format=compared.pixel_format,
                metadata=compared.metadata,
                quality=compared.quality,
            )
            self._writers.append(writer.__enter__())
        return self

    def write(self, rows: Rows) -> None:
        """Queue the next rows of `Comparison.side_by_side`."""
        width = self._comparison.size.width
        for writer, part in zip(self._writers, (rows[:, :width], rows[:, -width:]), strict=True):
            writer.write(part)

    def __exit__(  # noqa: PLR0917 - the signature of the protocol
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Complete the page; after an error, remove what was written."""
        with self._cleanup:
            for writer in self._writers:
                writer.__exit__(kind, error, trace)
            if error is None:
                with atomic_path(self._comparison.path) as temporary, temporary.open("wb") as page:
                    page.writelines(self._parts())

    def _parts(self) -> Iterator[bytes]:
        """Yield the page, the images in pieces of base64."""
        left, right = map(html.escape, self._comparison.labels)
        title = html.escape(self._comparison.path.stem.removesuffix("_compare"))
        texts = {"left": left, "right": right, "title": title}
        first, second, last = (Template(part).substitute(texts) for part in _PAGE.split(_IMAGE))
        for before, writer in ((first, self._writers[0]), (second, self._writers[1])):
            kind = "jpeg" if writer.path.suffix == ".jpg" else "png"
            yield f"{before}data:image/{kind};base64,".encode()
            with writer.path.open("rb") as image:
                while chunk := image.read(_CHUNK_BYTES):
                    yield base64.b64encode(chunk)
        yield last.encode()


_IMAGE: Final = "IMAGE"
_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>$title: $left | $right</title>
<style>
body { margin: 0; background: #222; color: #eee; font: 15px sans-serif; }
header { position: sticky; left: 0; width: 100vw; box-sizing: border-box; padding: 8px; }
header { display: flex; gap: 12px; align-items: center; }
#slider { flex: 1; }
#view { position: relative; width: fit-content; cursor: ew-resize; touch-action: pan-y; }
#view img { display: block; max-width: 100vw; max-height: calc(100vh - 50px); }
#view.actual img { max-width: none; max-height: none; }
#right { position: absolute; top: 0; left: 0; clip-path: inset(0 0 0 var(--cut)); }
#line { position: absolute; top: 0; bottom: 0; left: var(--cut); width: 2px; background: #fff; }
</style>
<header>
<span>$left</span>
<input id="slider" type="range" min="0" max="100" step="0.1" value="50" aria-label="divide">
<span>$right</span>
<button id="size" type="button">Actual size</button>
</header>
<div id="view" style="--cut: 50%">
<img id="left" alt="$left" draggable="false" src="IMAGE">
<img id="right" alt="$right" draggable="false" src="IMAGE">
<div id="line"></div>
</div>
<script>
const view = document.getElementById("view"), slider = document.getElementById("slider");
const button = document.getElementById("size");
slider.oninput = () => view.style.setProperty("--cut", slider.value + "%");
view.onpointermove = view.onpointerdown = (event) => {
  if (event.pointerType === "mouse" || event.buttons) {
    const box = view.getBoundingClientRect();
    slider.value = 100 * (event.clientX - box.left) / box.width;
    slider.oninput();
  }
};
button.onclick = () => {
  button.textContent = view.classList.toggle("actual") ? "Fit" : "Actual size";
};
</script>
</html>
"""
