"""Jobs: which images are upscaled and where each result goes, decided before any work starts."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from d2csr.core.errors import D2csrError, UsageError
from d2csr.images.formats import format_from_suffix
from d2csr.upscale.inputs import leave_out_named_results, list_inputs
from d2csr.upscale.journal import KnownResults
from d2csr.upscale.options import WRITABLE, ComparisonKind, OutputOptions
from d2csr.upscale.storage import identity, is_url, join_url

_UNWRITABLE = (".bmp", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".ppm")
_NARROW = (".webp", ".avif")  # formats of 16,384 px at most
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

    def comparison(self, kind: ComparisonKind) -> Path:
        """Return the file of the comparison; JPEG, whose images may be wide, for WebP and AVIF."""
        wide = ".jpg" if self.target.suffix.lower() in _NARROW else self.target.suffix
        return self._beside("compare", ".html" if kind == "html" else wide)

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
        if options.compare is not None:
            yield self.comparison(options.compare)
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
        target: path of the SR file, relative to the output folder if there is one; `/` between
            folders.
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


def plan_images(
    inputs: Sequence[str], output: str, *, options: OutputOptions, leaves: int, scale: int
) -> Plan:
    """Return the images to upscale, and an error for each input that can't be.

    Args:
        inputs: image files, accepted whatever their names; folders, searched recursively for
            images, except for hidden files and folders, `output`, and results of earlier runs.
            Paths or URLs.
        output: a folder, in which the trees of the input folders are kept; for a single image also
            the name of a file; empty for results beside their originals.
        options: which files are made.
        leaves: number of predictions of the model.
        scale: of the model.

    Raises:
        UsageError: nothing can be upscaled: there are no images, or all results would overwrite an
            input or have the same name.
    """
    options = _with_suffix(options, output, scale=scale)
    _check_names(output, options)
    errors: list[D2csrError] = []
    results: list[str] = []
    found = [*dict.fromkeys(list_inputs(inputs, output, errors=errors, results=results))]
    if not output:
        found = leave_out_named_results(found, inputs, results=results)
    if not found and not errors:
        raise _no_images(inputs, results)
    naming = _Naming(output_folder(output), options, leaves)
    images = naming.without_repetitions(
        _name_results(found, inputs, output=output, options=options)
    )
    plan = naming.settle(naming.leave_out_results(images, results=results))
    if plan.errors and not plan.images and not errors:
        raise plan.errors[0]
    notes = [_describe_left_out(results, beside=not output)] if results else []
    if options.ext in {None, "same"} and not is_one_file(output):
        notes += _describe_replaced_formats(plan.images)
    return Plan(plan.images, (*errors, *plan.errors), (*notes, *plan.notes))


def _no_images(inputs: Sequence[str], results: Sequence[str]) -> UsageError:
    """Return the error of a call without any image, except perhaps results of earlier runs."""
    if not results:
        remedy = "Give image files, or folders that contain some."
        return UsageError(", ".join(inputs), "contains no images", remedy)
    problem = f"contains no images but {_count_results(results)}"
    return UsageError(", ".join(inputs), problem, "To enlarge results again, give them by name.")


def _describe_left_out(results: Sequence[str], *, beside: bool) -> str:
    again = "alone" if beside else "by name"
    return f"left out {_count_results(results)}; to enlarge results again, give them {again}"


def _name_results(
    found: Sequence[tuple[str, str]],
    inputs: Sequence[str],
    *,
    output: str,
    options: OutputOptions,
) -> list[PlannedImage]:
    """Return each image that was found with the name of its result.

    Raises:
        UsageError: `output` is one file, and there are several images, or options contradict it.
    """
    if is_one_file(output):
        if len(inputs) > 1 or (not is_url(inputs[0]) and Path(inputs[0]).is_dir()):
            raise UsageError(output, "is the name of one file", "Give a folder for several images.")
        name = _one_file_name(Path(output), options)
        return [PlannedImage(source, name) for source, _ in found]
    return [
        PlannedImage(source, output_path(place if output else source, options))
        for source, place in found
    ]


def _with_suffix(options: OutputOptions, output: str, *, scale: int) -> OutputOptions:
    """Return the options with the end of file names that a run has if none is given."""
    if options.suffix is not None:
        return options
    return replace(options, suffix="" if output else options.size.name_suffix(scale=scale))


def _describe_replaced_formats(images: Sequence[PlannedImage]) -> Iterator[str]:
    """Yield a sentence on images whose format can't be written, if there are any."""
    suffixes = (PurePosixPath(image.source).suffix.lower() for image in images)
    replaced = [each for each in suffixes if each not in WRITABLE]
    if replaced:
        kinds = ", ".join(sorted({each or "no suffix" for each in replaced}))
        count = "1 result is" if len(replaced) == 1 else f"{len(replaced)} results are"
        yield f"{count} PNG, because the format of the image can't be written ({kinds})"


def is_one_file(output: str) -> bool:
    """Return whether the result is one file of that name, not a folder."""
    path = Path(output)
    return not is_url(output) and path.suffix.lower() in WRITABLE and not path.is_dir()


def output_folder(output: str) -> str:
    """Return the folder of the results, by path or URL; empty if there is none."""
    return str(Path(output).parent) if is_one_file(output) else output


def output_path(image: str, options: OutputOptions) -> str:
    """Return the name of an image's SR file; formats that can't be written become PNG."""
    path = PurePosixPath(image)
    if options.ext not in {None, "same"}:
        suffix = f".{options.ext}"
    else:
        suffix = path.suffix if path.suffix.lower() in WRITABLE else _DEFAULT_SUFFIX
    return str(path.with_name(f"{path.stem}{options.suffix or ''}{suffix}"))


def _check_names(output: str, options: OutputOptions) -> None:
    """Refuse names that no file can have."""
    if {"/", os.sep} & set(options.suffix or ""):
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
        folder: of the results, by path or URL; empty if there is none.
        options: which files are made.
        leaves: number of predictions of the model.
    """

    folder: str
    options: OutputOptions
    leaves: int

    def without_repetitions(self, images: Sequence[PlannedImage]) -> list[PlannedImage]:
        """Return the images without those given twice, as a file and in a folder."""
        unique = {
            (identity(each.source), identity(join_url(self.folder, each.target))): each
            for each in reversed(images)
        }
        return [*unique.values()][::-1]

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
        sources = {identity(image.source): image.source for image in images}
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
            if not is_url(each.source) and identity(each.source) in written and each.source in known
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
        return [identity(join_url(self.folder, file.as_posix())) for file in files]

    def _with_format(self, image: PlannedImage) -> PlannedImage:
        """Return an image with its format in the name of its result: a_jpg.png of a.jpg."""
        target, suffix = PurePosixPath(image.target), self.options.suffix or ""
        mark = PurePosixPath(image.source).suffix.replace(".", "_")
        name = f"{target.stem.removesuffix(suffix)}{mark}{suffix}{target.suffix}"
        return replace(image, target=str(target.with_name(name)))


def _count_results(results: Sequence[str]) -> str:
    count = len(results)
    return "1 result of an earlier run" if count == 1 else f"{count} results of earlier runs"
