"""Jobs: which images are upscaled and where each result goes, decided before any work starts."""

import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from d2csr.core.errors import D2csrError, ImageError, UsageError
from d2csr.images.formats import is_image_name
from d2csr.upscale.options import WRITABLE, OutputOptions
from d2csr.upscale.storage import is_url, join_url, list_images

_UNWRITABLE = (".bmp", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".ppm")
_SEPARATELY = "Rename one, keep the formats with --ext same, or upscale them separately."


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


def plan_images(
    inputs: Sequence[str], output: str, *, options: OutputOptions, leaves: int
) -> tuple[list[PlannedImage], list[D2csrError]]:
    """Return the images to upscale, in order, and an error for each input that can't be.

    Args:
        inputs: image files, accepted whatever their names; folders, searched recursively for
            images, except for hidden files and folders and `output`. Paths or URLs.
        output: a folder, in which the trees of the input folders are kept; for a single image also
            the name of a file.
        options: which files are made.
        leaves: number of predictions of the model.

    Raises:
        UsageError: no images, two files would get the same name, or an input would be overwritten.
    """
    _check_names(output, options)
    errors: list[D2csrError] = []
    found = dict.fromkeys(list_inputs(inputs, output, errors=errors))
    if not found and not errors:
        remedy = "Give image files, or folders that contain some."
        raise UsageError(", ".join(inputs), "contains no images", remedy)
    if is_one_file(output):
        if len(inputs) > 1 or (not is_url(inputs[0]) and Path(inputs[0]).is_dir()):
            raise UsageError(output, "is the name of one file", "Give a folder for several images.")
        name = _one_file_name(Path(output), options)
        images = [PlannedImage(source, name) for source, _ in found]
    else:
        images = [PlannedImage(source, output_path(place, options)) for source, place in found]
    _check_clashes(images, output_folder(output), options=options, leaves=leaves)
    return images, errors


def list_inputs(
    inputs: Sequence[str], output: str, *, errors: list[D2csrError]
) -> Iterator[tuple[str, str]]:
    """Yield the images of all inputs, each with its path in the tree of the results.

    Args:
        inputs: image files and folders, by path or URL.
        output: folder of the results, which is skipped.
        errors: gets an error for each input that can't be used.
    """
    for each in inputs:
        yield from _find_images(each, output, errors=errors)


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
    own = path.suffix if path.suffix.lower() in WRITABLE else ".png"
    suffix = own if options.ext == "same" else f".{options.ext}"
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
        try:
            yield from list_images(given)
        except ImageError as error:
            errors.append(error)
        return
    path = Path(given)
    if path.is_dir():
        yield from _walk(path, Path(output).resolve(), errors=errors)
    elif path.exists():
        yield given, path.name
    else:
        errors.append(ImageError(given, "does not exist", "Check the name."))


def _walk(top: Path, own: Path, *, errors: list[D2csrError]) -> Iterator[tuple[str, str]]:
    """Yield the images below a folder, except those in the folder of the results."""

    def on_error(error: OSError) -> None:
        problem = f"can't be searched: {error.strerror}"
        errors.append(ImageError(error.filename, problem, "Make it readable."))

    for folder, folders, names in os.walk(top, onerror=on_error):
        here = Path(folder)
        folders[:] = sorted(
            name for name in folders if name[0] != "." and (here / name).resolve() != own
        )
        images = (here / name for name in sorted(names) if is_image_name(Path(name)))
        yield from ((str(image), image.relative_to(top).as_posix()) for image in images)


def _one_file_name(output: Path, options: OutputOptions) -> str:
    """Return the name of the file, after checking that the options don't contradict it."""
    if options.suffix or options.ext not in {"png", output.suffix[1:].lower()}:
        remedy = "Remove --suffix and --ext, or give a folder."
        raise UsageError(output, "already determines the name and the format", remedy)
    return output.name


def _check_clashes(
    images: Sequence[PlannedImage], folder: str, *, options: OutputOptions, leaves: int
) -> None:
    """Refuse two sources for one file, and a file that is itself a source."""
    sources = {_identity(image.source): image.source for image in images}
    written: dict[str, str] = {}
    for image in images:
        for file in Job(Path(image.source), Path(image.target)).files(options, leaves):
            name = join_url(folder, file.as_posix())
            identity = _identity(name)
            if identity in sources:
                problem = f"would be overwritten by the result of {image.source}"
                remedy = "Choose another folder, or add a --suffix."
                raise UsageError(sources[identity], problem, remedy)
            if identity in written:
                problem = f"would be written for both {written[identity]} and {image.source}"
                raise UsageError(name, problem, _SEPARATELY)
            written[identity] = image.source


def _identity(name: str) -> str:
    """Return a text that is the same for all names of one file."""
    if not is_url(name):
        return str(Path(name).resolve())
    protocol, _, path = name.partition("://")
    return f"{protocol}://{posixpath.normpath(path.lstrip('/'))}"
