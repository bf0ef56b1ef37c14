"""Inputs: the images that files, folders and URLs stand for, without results of earlier runs."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from d2csr.core.errors import D2csrError, ImageError
from d2csr.images.formats import is_image_name
from d2csr.upscale.journal import KnownResults
from d2csr.upscale.storage import identity, is_url, list_images


def list_inputs(
    inputs: Sequence[str], output: str, *, errors: list[D2csrError], results: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield the images of all inputs, each with its path in the tree of the results.

    Args:
        inputs: image files and folders, by path or URL.
        output: folder of the results, which is skipped; empty if there is none.
        errors: gets an error for each input that can't be used.
        results: gets the files in folders that are results of earlier runs, which are skipped.
    """
    known = KnownResults()
    for each in inputs:
        for source, place in _find_images(each, output, errors=errors):
            if source != each and not is_url(source) and source in known:
                results.append(source)
            else:
                yield source, place


def leave_out_named_results(
    found: Sequence[tuple[str, str]], inputs: Sequence[str], *, results: list[str]
) -> list[tuple[str, str]]:
    """Return the images without results that are given by name beside others, as *.jpg does.

    Args:
        found: images, each with its path in the tree of the results.
        inputs: names that were given.
        results: gets the files that are left out.
    """
    known, given = KnownResults(), set(inputs)
    own = {source for source, _ in found if source in given and source in known}
    if len(own) == len(found):
        return [*found]
    results.extend(own)
    return [each for each in found if each[0] not in own]


def _find_images(given: str, output: str, *, errors: list[D2csrError]) -> Iterator[tuple[str, str]]:
    """Yield the images of one input, each with its path in the tree of the results."""
    if is_url(given):
        own = f"{identity(output)}/"
        is_inside = own.startswith(f"{identity(given)}/") and identity(given) != identity(output)
        try:
            found = list_images(given)
        except ImageError as error:
            errors.append(error)
            return
        yield from (each for each in found if not (is_inside and identity(each[0]).startswith(own)))
        return
    path = Path(given)
    if path.is_dir():
        yield from _walk(path, os.path.realpath(output) if output else "", errors=errors)
    elif (error := _describe_unreadable(path)) is not None:
        errors.append(error)
    else:
        yield given, path.name


def _walk(top: Path, own: str, *, errors: list[D2csrError]) -> Iterator[tuple[str, str]]:
    """Yield the images below a folder, except those in the folder of the results."""

    def on_error(error: OSError) -> None:
        problem = f"can't be searched: {error.strerror}"
        errors.append(ImageError(error.filename, problem, "Make it readable."))

    for folder, folders, names in os.walk(top, onerror=on_error):
        here = Path(folder)
        folders[:] = sorted(
            name for name in folders if name[0] != "." and os.path.realpath(here / name) != own
        )
        for image in (here / name for name in sorted(names) if is_image_name(Path(name))):
            if (error := _describe_unreadable(image)) is not None:
                errors.append(error)
            else:
                yield str(image), image.relative_to(top).as_posix()


def _describe_unreadable(path: Path) -> ImageError | None:
    """Return an error for what is no regular file, such as a pipe, a device or a broken link."""
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        problem = (
            "is a link to a file that doesn't exist" if path.is_symlink() else "does not exist"
        )
        return ImageError(path, problem, "Check the name.")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return ImageError(path, f"can't be read: {reason}", "Check the name.")
    if is_regular:
        return None
    return ImageError(path, "is not a regular file", "Give image files, or remove it.")
