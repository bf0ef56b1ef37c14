"""Jobs: which images a call means and where each goes, settled before any work starts."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from d2csr.core.errors import D2csrError, ImageError, UsageError
from d2csr.images.formats import is_image_name
from d2csr.upscale.options import WRITABLE, Job, OutputOptions

_UNWRITABLE = (".bmp", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".ppm")
Found = tuple[Path, Path]  # an image, and its path in the tree of the outputs


def plan_jobs(
    inputs: Sequence[Path], out: Path, *, wanted: OutputOptions, leaves: int
) -> tuple[list[Job], list[D2csrError]]:
    """Return what to enlarge, in order, and which inputs can't be.

    Args:
        inputs: image files, taken whatever their names; folders, searched for images all the
            way down, hidden files and folders and `out` left aside.
        out: a folder, in which the trees of the input folders are kept; for a single image also
            the name of a file.
        wanted: what is written for each.
        leaves: how many predictions the model makes.

    Raises:
        UsageError: there is nothing to enlarge, two files would get one name, or an input would be
            overwritten.
    """
    _refuse_names(out, wanted)
    errors: list[D2csrError] = []
    found = list(
        dict.fromkeys(pair for each in inputs for pair in _found(each, out, errors=errors))
    )
    if not found and not errors:
        remedy = "Give image files, or folders that hold some."
        raise UsageError(", ".join(map(str, inputs)), "no images there", remedy=remedy)
    if is_one_file(out):
        jobs = [Job(source, _named(out, wanted)) for source, _ in found]
        if len(inputs) > 1 or inputs[0].is_dir():
            remedy = "Give a folder for several images."
            raise UsageError(out, "is the name of one file", remedy=remedy)
    else:
        jobs = [Job(source, output_path(out / place, wanted)) for source, place in found]
    _refuse_clashes(jobs, wanted, leaves=leaves)
    return jobs, errors


def _refuse_names(out: Path, wanted: OutputOptions) -> None:
    """Refuse what no file can be called."""
    if {"/", os.sep} & set(wanted.suffix):
        problem = f"{wanted.suffix!r} holds a path separator"
        raise UsageError("--suffix", problem, remedy="Give a part of a file's name.")
    if out.exists() and not out.is_dir() and not is_one_file(out):
        raise UsageError(out, "is a file, and no image", remedy="Choose another folder.")
    if out.suffix.lower() in _UNWRITABLE and not out.is_dir():
        problem = f"would be a {out.suffix} image, which can't be written"
        raise UsageError(out, problem, remedy=f"Choose one of {', '.join(WRITABLE)}.")


def _found(given: Path, out: Path, *, errors: list[D2csrError]) -> Iterator[Found]:
    """Yield the images one input stands for; what is missing or locked goes to `errors`."""
    if not given.is_dir():
        if given.exists():
            yield given, Path(given.name)
        else:
            errors.append(ImageError(given, "does not exist", remedy="Check the name."))
        return

    def locked(error: OSError) -> None:
        problem = f"can't be searched: {error.strerror}"
        errors.append(ImageError(error.filename, problem, remedy="Make it readable."))

    own = out.resolve()
    for folder, folders, names in os.walk(given, onerror=locked):
        here = Path(folder)
        folders[:] = sorted(
            name for name in folders if name[0] != "." and (here / name).resolve() != own
        )
        images = (here / name for name in sorted(names) if is_image_name(Path(name)))
        yield from ((image, image.relative_to(given)) for image in images)


def is_one_file(out: Path) -> bool:
    """Return whether results go to a file of that name, not into a folder."""
    return out.suffix.lower() in WRITABLE and not out.is_dir()


def _named(out: Path, wanted: OutputOptions) -> Path:
    """Return the file that `out` names, after checking that the options don't name another."""
    if wanted.suffix or wanted.ext not in {"png", out.suffix[1:].lower()}:
        remedy = "Leave --suffix and --ext out, or give a folder."
        raise UsageError(out, "says the name and the format already", remedy=remedy)
    return out


def output_path(place: Path, wanted: OutputOptions) -> Path:
    """Return where an image's SR goes; what can't be written becomes PNG."""
    kept = place.suffix if place.suffix.lower() in WRITABLE else ".png"
    ending = kept if wanted.ext == "same" else f".{wanted.ext}"
    return place.with_name(f"{place.stem}{wanted.suffix}{ending}")


def _refuse_clashes(jobs: Sequence[Job], wanted: OutputOptions, *, leaves: int) -> None:
    """Refuse two sources for one file, and a file that is itself a source."""
    sources = {job.source.resolve(): job.source for job in jobs}
    writers: dict[Path, Path] = {}
    for job in jobs:
        for file in job.files(wanted, leaves):
            place = file.resolve()
            if place in sources:
                problem = f"would be overwritten by what is made of {job.source}"
                remedy = "Choose another folder, or add a --suffix."
                raise UsageError(sources[place], problem, remedy=remedy)
            if place in writers:
                problem = f"would be written for both {writers[place]} and {job.source}"
                remedy = "Rename one, keep the formats with --ext same, or enlarge them apart."
                raise UsageError(file, problem, remedy=remedy)
            writers[place] = job.source
