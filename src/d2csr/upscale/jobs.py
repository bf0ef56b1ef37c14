"""Jobs: which images are upscaled and where each result goes, decided before any work starts."""

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from d2csr.core.errors import D2csrError, ImageError, UsageError
from d2csr.images.formats import format_from_suffix, is_image_name
from d2csr.upscale.journal import KnownResults
from d2csr.upscale.options import WRITABLE, OutputOptions
from d2csr.upscale.storage import is_url, join_url, list_images

_UNWRITABLE = (".bmp", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".ppm")
_DEFAULT_SUFFIX = ".png"


@dataclass(frozen=True)
class Job:
    """One image to upscale.

    Attributes:
        source: the file to read.
        target: the SR file to write.
    """

    source: Path
    target: Path

    def bicubic(self) -> Path:
        """Return the file of the bicubic enlargement."""
        return self._beside("bicubic", self.target.suffix)

    def prediction(self, leaf: int) -> Path:
        """Return the file of a prediction; the names count from 1."""
        return self._beside(f"prediction_{leaf + 1}", self.target.suffix)

    def weight_map(self, leaf: int) -> Path:
        """Return the file of a prediction's weights."""
        return self._beside(f"weight_{leaf + 1}", ".png")

    def uncertainty(self) -> Path:
        """Return the file of the expected error."""
        return self._beside("uncertainty", ".png")

    def disagreement(self) -> Path:
        """Return the file of the disagreement of the predictions."""
        return self._beside("disagreement", ".png")

    def files(self, options: OutputOptions, leaves: int) -> Iterator[Path]:
        """Yield every file that is written for this image, SR first."""
        yield self.target
        if options.bicubic:
            yield self.bicubic()
        if options.predictions:
            yield from map(self.prediction, range(leaves))
        if options.weight_maps:
            yield from map(self.weight_map, range(leaves))
        if options.uncertainty:
            yield self.uncertainty()
        if options.disagreement:
            yield self.disagreement()

    def _beside(self, name: str, suffix: str) -> Path:
        return self.target.with_name(f"{self.target.stem}_{name}{suffix}")


@dataclass(frozen=True)
class PlannedImage:
    """An image and its SR file, by name: local files and objects behind URLs alike.

    Attributes:
        source: path or URL of the image.
        target: path of the SR file, relative to the output folder; `/` between folders.
    """

    source: str
    target: str


@dataclass(frozen=True)
class Plan:
    """The work of a run.

    Attributes:
        images: the images to upscale, in order.
        errors: one for each input that can't be upscaled.
        notes: sentences on names and on files that were left out.
    """

    images: tuple[PlannedImage, ...]
    errors: tuple[D2csrError, ...] = ()
    notes: tuple[str, ...] = ()


def plan_images(inputs: Sequence[str], output: str, *, options: OutputOptions, leaves: int) -> Plan:
    """Return the images to upscale, and an error for each input that can't be.

    Args:
        inputs: image files, accepted whatever their names; folders, searched recursively for
            images, except for hidden files and folders, `output`, and results of earlier runs.
            Paths or URLs.
        output: a folder, in which the trees of the input folders are kept; for a single image also
            the name of a file.
        options: which files are made.
        leaves: number of predictions of the model.

    Raises:
        UsageError: nothing can be upscaled: there are no images, or all results would overwrite an
            input or have the same name.
    """
    _check_names(output, options)
    errors: list[D2csrError] = []
    results: list[str] = []
    found = dict.fromkeys(list_inputs(inputs, output, errors=errors, results=results))
    if not found and not errors:
        but = f" but {_count_results(results)}" if results else ""
        remedy = "Give image files, or folders that contain some."
        if results:
            remedy = "To enlarge results again, give them by name."
        raise UsageError(", ".join(inputs), f"contains no images{but}", remedy)
    if is_one_file(output):
        if len(inputs) > 1 or (not is_url(inputs[0]) and Path(inputs[0]).is_dir()):
            raise UsageError(output, "is the name of one file", "Give a folder for several images.")
        name = _one_file_name(Path(output), options)
        images = [PlannedImage(source, name) for source, _ in found]
    else:
        images = [PlannedImage(source, output_path(place, options)) for source, place in found]
    naming = _Naming(output_folder(output), options, leaves)
    plan = naming.settle(naming.leave_out_results(images, results=results))
    if plan.errors and not plan.images and not errors:
        raise plan.errors[0]
    note = f"left out {_count_results(results)}; to enlarge results again, give them by name"
    notes = (note, *plan.notes) if results else plan.notes
    return Plan(plan.images, (*errors, *plan.errors), notes)


def list_inputs(
    inputs: Sequence[str], output: str, *, errors: list[D2csrError], results: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield the images of all inputs, each with its path in the tree of the results.

    Args:
        inputs: image files and folders, by path or URL.
        output: folder of the results, which is skipped.
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


def is_one_file(output: str) -> bool:
    """Return whether the result is one file of that name, not a folder."""
    path = Path(output)
    return not is_url(output) and path.suffix.lower() in WRITABLE and not path.is_dir()


def output_folder(output: str) -> str:
    """Return the folder of the results, by path or URL."""
    return str(Path(output).parent) if is_one_file(output) else output


def output_path(image: str, options: OutputOptions) -> str:
    """Return the name of an image's SR file; formats that can't be written become PNG."""
    path = PurePosixPath(image)
    suffix = _DEFAULT_SUFFIX if options.ext in {None, "same"} else f".{options.ext}"
    if options.ext == "same" and path.suffix.lower() in WRITABLE:
        suffix = path.suffix
    return str(path.with_name(f"{path.stem}{options.suffix}{suffix}"))


def _check_names(output: str, options: OutputOptions) -> None:
    """Refuse names that no file can have."""
    if {"/", os.sep} & set(options.suffix):
        problem = f"{options.suffix!r} contains a path separator"
        raise UsageError("--suffix", problem, "Give a part of a file name.")
    path = Path(output)
    if is_url(output) or path.is_dir():
        return
    if path.exists() and not is_one_file(output):
        raise UsageError(path, "is a file, but not an image", "Choose another folder.")
    if path.suffix.lower() in _UNWRITABLE:
        problem = f"can't be written: {path.suffix} is not an output format"
        raise UsageError(path, problem, f"Choose one of {', '.join(WRITABLE)}.")


def _find_images(given: str, output: str, *, errors: list[D2csrError]) -> Iterator[tuple[str, str]]:
    """Yield the images of one input, each with its path in the tree of the results."""
    if is_url(given):
        own = f"{_identity(output)}/"
        is_inside = own.startswith(f"{_identity(given)}/") and _identity(given) != _identity(output)
        try:
            found = list_images(given)
        except ImageError as error:
            errors.append(error)
            return
        yield from (
            each for each in found if not (is_inside and _identity(each[0]).startswith(own))
        )
        return
    path = Path(given)
    if path.is_dir():
        yield from _walk(path, os.path.realpath(output), errors=errors)
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


def _one_file_name(output: Path, options: OutputOptions) -> str:
    """Return the name of the file, after checking that the options don't contradict it."""
    is_other = options.ext is not None and (
        format_from_suffix(Path(f"_.{options.ext}")) != format_from_suffix(output)
    )
    if options.suffix or is_other:
        remedy = "Remove --suffix and --ext, or give a folder."
        raise UsageError(output, "already determines the name and the format", remedy)
    return output.name


@dataclass(frozen=True)
class _Naming:
    """The names of all files of a run: no two files share one, and no input is overwritten.

    Attributes:
        folder: of the results, by path or URL.
        options: which files are made.
        leaves: number of predictions of the model.
    """

    folder: str
    options: OutputOptions
    leaves: int

    def settle(self, images: Sequence[PlannedImage]) -> Plan:
        """Return the images with names that they don't share, and an error for each without one.

        Images whose results would share a name, such as a.jpg and a.png, get their format in it.

        Args:
            images: with the names that the options give them.
        """
        shared = self._find_shared(images)
        renamed = [self._with_format(each).target for each in images if each in shared]
        notes = [
            f"{len(renamed)} images of one name have their format in the names of their results, "
            f"such as {name}"
            for name in renamed[:1]
        ]
        images = [self._with_format(each) if each in shared else each for each in images]
        errors: dict[PlannedImage, D2csrError] = {}
        sources = {_identity(image.source): image.source for image in images}
        for image, other in self._find_shared(images).items():
            problem = f"its result would have the same name as that of {other}"
            remedy = "Rename one, or upscale them separately."
            errors[image] = UsageError(image.source, problem, remedy)
        for image in images:
            for file in sources.keys() & self._files(image):
                problem = f"its result would overwrite {sources[file]}"
                remedy = "Choose another folder, or add a --suffix."
                errors[image] = UsageError(image.source, problem, remedy)
        left = tuple(image for image in images if image not in errors)
        return Plan(left, tuple(errors.values()), tuple(notes))

    def leave_out_results(
        self, images: Sequence[PlannedImage], *, results: list[str]
    ) -> list[PlannedImage]:
        """Return the images without results of earlier runs that this run writes again.

        Args:
            images: those found.
            results: gets the files that are left out.
        """
        known, written = KnownResults(), {file for each in images for file in self._files(each)}
        own = [
            each.source
            for each in images
            if not is_url(each.source)
            and _identity(each.source) in written
            and each.source in known
        ]
        results.extend(own)
        return [each for each in images if each.source not in own]

    def _find_shared(self, images: Sequence[PlannedImage]) -> dict[PlannedImage, str]:
        """Return each image with a file that another writes too, and the source of that one."""
        writers: dict[str, PlannedImage] = {}
        shared: dict[PlannedImage, str] = {}
        for image in images:
            for file in self._files(image):
                other = writers.setdefault(file, image)
                if other != image:
                    shared.setdefault(other, image.source)
                    shared.setdefault(image, other.source)
        return shared

    def _files(self, image: PlannedImage) -> list[str]:
        """Return the identities of the files that are written for an image."""
        files = Job(Path(image.source), Path(image.target)).files(self.options, self.leaves)
        return [_identity(join_url(self.folder, file.as_posix())) for file in files]

    def _with_format(self, image: PlannedImage) -> PlannedImage:
        """Return an image with its format in the name of its result: a_jpg.png of a.jpg."""
        target, suffix = PurePosixPath(image.target), self.options.suffix
        mark = PurePosixPath(image.source).suffix.replace(".", "_")
        name = f"{target.stem.removesuffix(suffix)}{mark}{suffix}{target.suffix}"
        return replace(image, target=str(target.with_name(name)))


def _count_results(results: Sequence[str]) -> str:
    count = len(results)
    return "1 result of an earlier run" if count == 1 else f"{count} results of earlier runs"


def _identity(name: str) -> str:
    """Return a text that is the same for all names of one file."""
    if not is_url(name):
        return os.path.realpath(name)  # `Path.resolve` raises an error for links in a circle
    protocol, _, path = name.partition("://")
    return f"{protocol}://{posixpath.normpath(path.lstrip('/'))}"
