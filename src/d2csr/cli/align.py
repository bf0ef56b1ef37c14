"""Command `align`: training pairs from photographs taken at two focal lengths."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt
from cyclopts.validators import Number

from d2csr.core.console import print_line

if TYPE_CHECKING:
    from d2csr.align.dataset import DatasetLayout
    from d2csr.align.steps import Settings

_Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]


@dataclass(frozen=True)
class RegistrationOptions:
    """Registration.

    Attributes:
        lens: Lens distortion to start from: identity (none), lensfun (by EXIF), estimate (from all
            pairs of a lens), or a JSON file of coefficients.
        warp: Corrections besides the homography: none; radial (distortion of both lenses, fitted to
            the pair); global (also a coarse mesh, if it lowers the error on held-out patches);
            dense (also a field of displacements, for two lenses beside each other); or auto (a
            field if held-out patches gain by it, or if the global registration isn't good enough).
        edge: LR pixels to crop from every edge.
        centre: Share of the sides of the common area to use, to avoid lens distortion.
        colors: Give HR the brightness and colors of LR (match), or leave its own (keep).
    """

    lens: str = "identity"
    warp: Literal["auto", "global", "dense", "radial", "none"] = "auto"
    edge: Annotated[int, Parameter(validator=Number(gte=0))] = 2
    centre: Annotated[float, Parameter(validator=Number(gt=0, lte=1))] = 1.0
    colors: Literal["match", "keep"] = "match"


@dataclass(frozen=True)
class DatasetOptions:
    """Training set.

    Attributes:
        layout: {train,val,test}/CAMERA_NNN_HR.png and _LRs.png (splits), or the folders of RealSR
            V3 (realsr).
        seed: Seed of the assignment of scenes to splits.
        val: Share of the scenes for validation.
        test: Share of the scenes for testing.
        licence: Licence of the photographs, for the manifest.
    """

    layout: Literal["splits", "realsr"] = "splits"
    seed: int = 0
    val: _Share = 0.1
    test: _Share = 0.1
    licence: str = ""


@dataclass(frozen=True)
class WorkerOptions:
    """Processes.

    Attributes:
        workers: Pairs to process in parallel; by default one per core. Free memory limits it.
        executor: Processes of this machine (local), or a Ray cluster (ray): the one that
            RAY_ADDRESS names, or one started here. Paths must be the same on all its machines.
    """

    workers: PositiveInt | None = None
    executor: Literal["local", "ray"] = "local"


def align(
    photos: Annotated[tuple[Path, ...], Parameter(negative=())],
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    scale: Annotated[PositiveInt, Parameter(name=("--scale", "-s"))] = 4,
    registration: Annotated[RegistrationOptions, Parameter(name="*")] = RegistrationOptions(),
    dataset: Annotated[DatasetOptions, Parameter(name="*")] = DatasetOptions(),
    processes: Annotated[WorkerOptions, Parameter(name="*")] = WorkerOptions(),
) -> int:
    """Make training pairs of photographs of one scene taken wide and zoomed in.

    The pixels of the wide photograph become LR unchanged; the tele photograph is interpolated once
    on their grid, `scale` times finer, and becomes HR. Unreliable pairs are rejected, and the
    report gives the reasons. Repeat the command to resume an interrupted run. Exit code: 0 all
    pairs accepted, 1 some, 2 none.

    Args:
        photos: A folder of photographs, searched recursively; or two files, WIDE and TELE, which
            are added to the set in OUTPUT.
        output: Folder for the pairs, their manifest.json and report.html.
        scale: HR pixels per LR pixel; the ratio of the focal lengths must be at least 0.8 times it.
    """
    from d2csr.align.build import Workers, align_folder, align_pair
    from d2csr.core.errors import UsageError

    if len(photos) not in {1, 2}:
        remedy = "Give a folder, or the wide and the tele photograph."
        raise UsageError("photographs", f"{len(photos)} paths were given", remedy)
    settings, layout = _make_settings(scale, registration), _make_layout(scale, dataset)
    workers = Workers(processes.workers, processes.executor)
    if len(photos) == 1:
        summary = align_folder(photos[0], output, settings=settings, layout=layout, workers=workers)
    else:
        wide, tele = photos
        summary = align_pair(
            wide, tele, output=output, settings=settings, layout=layout, workers=workers
        )
    print_line(*summary.as_text().split("\n"))
    return summary.exit_code


def _make_settings(scale: int, options: RegistrationOptions) -> "Settings":
    from d2csr.align.registration.lens import parse_lens_spec
    from d2csr.align.steps import Settings
    from d2csr.core.errors import UsageError

    if scale < 2:
        raise UsageError("--scale", f"is {scale}", "Choose 2 or more.")
    return Settings(
        scale=scale,
        lens=parse_lens_spec(options.lens),
        warp=options.warp,
        match_color=options.colors == "match",
        edge_px=options.edge,
        centre=options.centre,
    )


def _make_layout(scale: int, options: DatasetOptions) -> "DatasetLayout":
    from d2csr.align.dataset import DatasetLayout
    from d2csr.core.errors import UsageError

    if options.val + options.test >= 1:
        remedy = "Choose smaller shares, so that some scenes are left for training."
        raise UsageError("--val, --test", "take all scenes", remedy)
    return DatasetLayout(
        scale, options.layout, options.seed, options.val, options.test, options.licence
    )
