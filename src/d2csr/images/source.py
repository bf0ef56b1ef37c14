"""Picture files opened: what they are by their content, how large, and how they stand."""

from pathlib import Path
from typing import Any

import pyvips

from d2csr.core.errors import ImageError
from d2csr.core.grid import Size
from d2csr.images.formats import FORMATS, HEAD_BYTES, IMAGE_SUFFIXES, format_of_bytes

REPLACE = "Replace the file, or take it out."
_UNKNOWN = "is no picture in a format known here"
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def content_format(path: Path) -> str:
    """Return the format a file's content has, a key of `FORMATS`, whatever its suffix says.

    Raises:
        ImageError: the file is missing, empty, unreadable, or no picture in a known format.
    """
    head = _first_bytes(path)
    content = format_of_bytes(head)
    if content in FORMATS:
        return content
    known = ", ".join(sorted(IMAGE_SUFFIXES))
    problem = f"is {content}, which is no format read here" if content else _UNKNOWN
    cure = "Develop it to TIFF, PNG or JPEG first." if "raw photo" in content else REPLACE
    raise ImageError(path, problem, remedy=f"{cure} Known are {known}.")


def open_picture(path: Path, *, sequential: bool = False) -> Any:
    """Return a libvips image whose pixels are not read yet, of the file's first or main page.

    By its descriptor: libvips would remember a file by its name and show old pixels after a change,
    would take brackets in a name for options, and needs names in UTF-8. With the reader of the
    content's format: others (drawings, tables, libvips' own format) stay out of reach.

    Args:
        path: a picture file.
        sequential: read rows once, top to bottom, in little memory.

    Raises:
        ImageError: as `content_format`; or the header is damaged.
    """
    content = content_format(path)
    try:
        image = _loaded(path, content, sequential=sequential)
        if image.get_typeof("heif-primary") and int(image.get("heif-primary")):
            page = int(image.get("heif-primary"))
            image = _loaded(path, content, sequential=sequential, page=page)
    except pyvips.Error as error:
        raise damaged(path, error) from error
    return image


def orientation(image: Any) -> int:
    """Return the EXIF orientation that pixels must still be turned by, 1 for upright."""
    value = int(image.get("orientation")) if image.get_typeof("orientation") else 1
    return value if 1 <= value <= 8 else 1


def upright_size(image: Any) -> Size:
    """Return width and height of the upright picture."""
    if orientation(image) in SIDEWAYS:
        return Size(image.height, image.width)
    return Size(image.width, image.height)


def damaged(path: Path, error: pyvips.Error) -> ImageError:
    """Return the fault of a file that libvips gave up on, in plain words where its are known."""
    detail = " ".join(str(error).split())
    if "decoder plugin" in detail:
        problem = "is coded in HEVC, as phones do, and no decoder for that is installed"
        cure = "Install one (pip install 'd2csr[heif]'), or convert it to AVIF, JPEG or PNG."
        return ImageError(path, problem, remedy=cure)
    if "out of memory" in detail:
        problem = "is too large for this machine's memory"
        return ImageError(path, problem, remedy="Give a smaller picture, or a part of it.")
    return ImageError(path, f"is damaged or cut short ({detail[:400]})", remedy=REPLACE)


def _loaded(path: Path, content: str, *, sequential: bool, **options: Any) -> Any:
    loader = f"{'heif' if content == 'avif' else content}load_source"
    access = "sequential" if sequential else "random"
    with path.open("rb") as file:  # which any name opens; libvips keeps a descriptor of its own
        source = pyvips.Source.new_from_descriptor(file.fileno())
        return pyvips.Operation.call(loader, source, access=access, fail_on="error", **options)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise ImageError(path, "does not exist", remedy="Check the name.") from error
    except OSError as error:
        problem = f"can't be read: {error.strerror}"
        raise ImageError(path, problem, remedy="Give a readable picture file.") from error
    except ValueError as error:
        raise ImageError(repr(path), "is no file's name", remedy="Check the name.") from error
    if not head:
        raise ImageError(path, "is empty (0 bytes)", remedy=REPLACE)
    return head
