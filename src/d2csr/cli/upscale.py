"""Command `upscale`: enlarge photographs."""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from d2csr.images.formats import DEFAULT_LIMIT_MP
from d2csr.upscale.options import NATIVE_SIZE, OutputOptions, OutputSize


@dataclass(frozen=True)
class ModelOptions:
    """Which model.

    Attributes:
        name: A shipped model (`d2csr models` lists them), or the folder of a bundle or of a run.
        scale: What the model must enlarge by; without -n, the smallest shipped model that does is
            taken.
    """

    name: Annotated[str | None, Parameter(name=("--name", "-n"))] = None
    scale: Annotated[int | None, Parameter(name=("--scale", "-s"))] = None


@dataclass(frozen=True)
class _Wanted(OutputOptions):
    __doc__ = OutputOptions.__doc__

    self_ensemble: Annotated[bool, Parameter(name=("--self-ensemble", "-x"))] = False
    size: Annotated[OutputSize, Parameter(name="*")] = NATIVE_SIZE


@dataclass(frozen=True)
class Means:
    """What to compute with.

    Attributes:
        backend: What to compute with: auto, openvino, onnxruntime, torch, or reference (the network
            as it was trained, in one piece); auto is torch for an NVIDIA GPU, openvino otherwise.
        device: Where to compute: auto, cpu, gpu, or an index: -1 for the processor, from 0 on for
            GPUs; auto is an NVIDIA GPU if the backend can use one, and the processor otherwise.
        precision: How finely: auto, fp32, bf16, or int8; auto is the fastest that keeps the model's
            accuracy.
        memory: How much memory the engine may take: 4GiB, 500MB, or a number of bytes; a share of
            what is free unless given.
        limit_mp: The largest image taken, in millions of pixels; more is refused by its header,
            before it is decoded.
        engine: Who does the work: this process (local), or a Ray cluster (ray): the one that
            RAY_ADDRESS names, or else one started here. With ray, inputs and output may be URLs of
            object storage.
        workers: With ray: how many processes of the cluster share the work; one a machine unless
            given.
    """

    backend: str = "auto"
    device: Annotated[str, Parameter(name=("--device", "-g"), allow_leading_hyphen=True)] = "auto"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    memory: str | None = None
    limit_mp: float = DEFAULT_LIMIT_MP
    engine: Literal["local", "ray"] = "local"
    workers: PositiveInt | None = None


@dataclass(frozen=True)
class Conduct:
    """How to go about it.

    Attributes:
        resume: Leave out what an earlier run into this folder has finished, if neither the image
            nor the settings have changed since.
        json: Print a line of JSON for each image, and one for the call, on standard output.
        dry_run: Say what would be done, how, and in how much memory, and write nothing.
    """

    resume: bool = False
    json: bool = False
    dry_run: bool = False


def upscale(
    *,
    input: Annotated[  # noqa: A002 - the option's name
        tuple[str, ...],
        Parameter(name=("--input", "-i"), consume_multiple=True, negative=()),
    ],
    output: Annotated[str, Parameter(name=("--output", "-o"))],
    choice: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    wanted: Annotated[_Wanted, Parameter(name="*", negative=())] = _Wanted(),
    means: Annotated[Means, Parameter(name="*")] = Means(),
    conduct: Annotated[Conduct, Parameter(name="*")] = Conduct(),
) -> int:
    """Enlarge photographs and write them into one folder.

    An image that can't be enlarged is reported and the rest go on. What is written is whole: after
    Ctrl-C or a crash the same call with --resume goes on. Exit code: 0 all done, 1 some failed, 2
    nothing could be done, 130 interrupted.

    Args:
        input: Image files, or folders searched recursively; hidden files and files that are no
            images are skipped.
        output: Folder for the results, in which the tree of an input folder is kept; for a single
            image also the name of a file.
    """
    from d2csr.core.errors import UsageError
    from d2csr.upscale.options import ComputeOptions, parse_bytes
    from d2csr.upscale.run import (
        BatchOptions,
        select_bundle,  # `upscale --help` needs no engine
        upscale_files,
    )
    from d2csr.upscale.storage import reject_urls

    if means.workers is not None and means.engine == "local":
        remedy = "Leave it away, or say --engine ray."
        raise UsageError("--workers", "counts processes of a Ray cluster", remedy=remedy)
    if not 0 < means.limit_mp < math.inf:
        remedy = "Give millions of pixels, above 0."
        raise UsageError("--limit-mp", f"can't be {means.limit_mp:g}", remedy=remedy)
    memory = None if means.memory is None else parse_bytes(means.memory)
    compute = ComputeOptions(means.backend, means.device, means.precision, memory, means.limit_mp)
    bundle = select_bundle(choice.name, choice.scale)
    manner = BatchOptions(conduct.resume, conduct.json, means.workers)
    if conduct.dry_run or means.engine == "local":
        reject_urls((*input, output))
    places = [Path(each) for each in input]
    if conduct.dry_run:
        from d2csr.upscale.dry_run import run_dry

        return run_dry(
            places, Path(output), bundle=bundle, wanted=wanted, compute=compute, manner=manner
        )
    if means.engine == "ray":
        from d2csr.upscale.ray_executor import upscale_on_cluster

        summary = upscale_on_cluster(
            input, output, bundle=bundle, wanted=wanted, compute=compute, manner=manner
        )
    else:
        summary = upscale_files(
            places, Path(output), bundle=bundle, wanted=wanted, compute=compute, manner=manner
        )
    if conduct.json:
        print(json.dumps({"event": "call", "output": output, **summary.record()}))
    elif not summary.interrupted:
        print(f"{summary.as_text()}: {output}")
    if summary.interrupted:
        what = "The files are whole; the same call with --resume goes on."
        print(f"interrupted: {summary.as_text()}. {what}", file=sys.stderr)
    return summary.exit_code
