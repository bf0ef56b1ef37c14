"""Files of one picture while they are written: what kind each is, and what it can't carry."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from d2csr.core.grid import Size
from d2csr.images.kept import NOTHING_KEPT
from d2csr.images.layout import Layout, losses_of
from d2csr.images.picture import Picture
from d2csr.images.strips import StripWriter
from d2csr.upscale.wanted import Job

_MAP = Layout(colours=3, alpha=False, bits=8)


@contextmanager
def open_sheets(
    job: Job, files: list[Path], *, picture: Picture, size: Size
) -> Iterator[Mapping[Path, StripWriter]]:
    """Yield a writer for each of a picture's files; SR gets its name last.

    If the block fails, none of them is left.

    Args:
        job: what the files belong to.
        files: what is written, SR first.
        picture: whose layout, profile and EXIF the pictures get; maps of numbers get none.
        size: of what is written.
    """
    with ExitStack() as stack:
        writers = {}
        for file in files:
            is_map = job.is_map(file)
            writer = StripWriter(
                file,
                size=size,
                layout=_MAP if is_map else picture.layout,
                kept=NOTHING_KEPT if is_map else picture.kept,
                scale=size.width / picture.size.width,
            )
            writers[file] = stack.enter_context(writer)
        yield writers


def losses(job: Job, *, picture: Picture, size: Size) -> tuple[str, ...]:
    """Return what of a picture its SR file can't carry, a sentence each.

    Raises:
        ImageError: it is too large for the format.
    """
    return losses_of(picture.layout, job.target, size=size)
