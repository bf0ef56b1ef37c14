"""Faults of one picture in words that name the picture; what isn't one of these is our own."""

from pathlib import Path

from d2csr.core.errors import BundleError, D2csrError, ImageError, UsageError

PICTURE_FAULTS = (D2csrError, MemoryError, OSError)


def picture_fault(source: Path, error: BaseException) -> D2csrError:
    """Return a fault of the tuple above as one to tell the user."""
    if isinstance(error, MemoryError):
        remedy = "Give a smaller picture, or a part of it, or less --memory."
        return ImageError(source, "is too large for this machine's memory", remedy=remedy)
    if isinstance(error, OSError):
        problem = f"can't be enlarged: {error.strerror or error}"
        return ImageError(source, problem, remedy="Free some space, or choose another folder.")
    if isinstance(error, BundleError) or (
        isinstance(error, UsageError) and error.where == "memory"
    ):  # names a graph, or memory; people look for the picture
        return ImageError(source, f"{error.where}: {error.problem}", remedy=error.remedy)
    if isinstance(error, D2csrError):
        return error
    raise error
