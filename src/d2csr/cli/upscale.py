"""Command `upscale`: upscale image files."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token
from cyclopts.types import PositiveInt

from d2csr.core.console import print_line
from d2csr.core.errors import UsageError
from d2csr.images.formats import DEFAULT_LIMIT_MP
from d2csr.upscale.options import (
    NATIVE_SIZE,
    BatchOptions,
    ComputeOptions,
    OutputOptions,
    OutputSize,
    parse_bytes,
)

if TYPE_CHECKING:
    from d2csr.upscale.report import Summary


def _to_bytes(_type: Any, tokens: tuple[Token, ...]) -> int:
    return parse_bytes(tokens[0].value)


@dataclass(frozen=True)
class FileOptions:
    """Photographs and results.

    Attributes:
        input: The same as PHOTOS, as an option.
        output: Folder for the results, which mirrors the tree of an input folder; for a single
            image also the name of a file. By default each result lies beside its photograph.
    """

    input: Annotated[
        tuple[str, ...], Parameter(name=("--input", "-i"), consume_multiple=True, negative=())
    ] = ()
    output: Annotated[str | None, Parameter(name=("--output", "-o"))] = None


@dataclass(frozen=True)
class ModelOptions:
    """The model.

    Attributes:
        name: A shipped model (`d2csr models` lists them), or the folder of a bundle or a run; by
            default the model for photographs: photo-x2, photo-x3 or photo-x4.
        scale: Scale that the model must have; without -n it is 2, 3 or 4: by default 2, or the
            smallest that reaches --outscale, --width or --height.
    """

    name: Annotated[str | None, Parameter(name=("--name", "-n"))] = None
    scale: Annotated[int | None, Parameter(name=("--scale", "-s"))] = None


@dataclass(frozen=True)
class _Output(OutputOptions):
    __doc__ = OutputOptions.__doc__

    self_ensemble: Annotated[bool, Parameter(name=("--self-ensemble", "-x"))] = False
    size: Annotated[OutputSize, Parameter(name="*")] = NATIVE_SIZE


@dataclass(frozen=True)
class _Compute(ComputeOptions):
    __doc__ = ComputeOptions.__doc__

    device: Annotated[str, Parameter(name=("--device", "-g"), allow_leading_hyphen=True)] = "auto"
    memory: Annotated[int | None, Parameter(converter=_to_bytes)] = None
    limit_mp: float = DEFAULT_LIMIT_MP


@dataclass(frozen=True)
class _Batch(BatchOptions):
    __doc__ = BatchOptions.__doc__

    workers: PositiveInt | None = None


def upscale(
    photos: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    /,
    *,
    files: Annotated[FileOptions, Parameter(name="*")] = FileOptions(),
    model: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    options: Annotated[_Output, Parameter(name="*", negative=())] = _Output(),
    compute: Annotated[_Compute, Parameter(name="*")] = _Compute(),
    batch: Annotated[_Batch, Parameter(name="*", negative=())] = _Batch(),
) -> int:
    """Upscale photographs, in the format and with the metadata of each.

    Without -o, each result lies beside its photograph, with the enlargement in its name: photo.jpg
    becomes photo_x2.jpg. Results of earlier runs are left out, and no file is replaced without
    --overwrite. An image that fails is reported, and the others continue. Files are complete or
    absent: after Ctrl-C or a crash, add --resume. Exit code: 0 if all images
    succeeded, 1 if some failed, 2 if none succeeded, 130 if interrupted.

    Args:
        photos: Image files, or folders that are searched recursively; hidden files and files that
            are not images are skipped.
    """
    from d2csr.upscale.run import upscale_files  # imports OpenVINO

    inputs, output = (*photos, *files.input), files.output or ""
    if not inputs:
        remedy = "Give image files or folders, as in `d2csr upscale photo.jpg`."
        raise UsageError("upscale", "has no images to enlarge", remedy)
    summary = upscale_files(
        inputs,
        output,
        model=model.name,
        scale=model.scale,
        options=options,
        compute=compute,
        batch=batch,
    )
    if not batch.dry_run:
        _print_summary(summary, output, json_lines=batch.json)
    return summary.exit_code


def _print_summary(summary: "Summary", output: str, *, json_lines: bool) -> None:
    from d2csr.upscale.report import print_record

    if json_lines:
        print_record({"event": "run", "output": output or None, **summary.record()})
    elif not summary.interrupted:
        files = summary.describe_files()
        where = output if files and output else files
        print_line(": ".join(filter(None, (summary.as_text(), where))))
    if summary.interrupted:
        remedy = "All files are complete; run the same command with --resume to continue."
        print_line(f"interrupted: {summary.as_text()}. {remedy}", stream=sys.stderr)
