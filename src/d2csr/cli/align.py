"""Command `align`: training pairs from photographs taken at two focal lengths."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt
from cyclopts.validators import Number

_Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]


@dataclass(frozen=True)
class RegistrationOptions:
    """How to register.

    Attributes:
        lens: Distortion to undo first: identity, lensfun (by EXIF), estimate (from the pairs of one
            lens together), or a JSON file of coefficients.
        warp: What may bend the image besides the matrix: none, radial (both lenses' distortion,
            fitted to the pair), or auto (a mesh of few cells too, where held-out patches are better
            explained by it).
        edge: LR pixels to crop from every edge.
        centre: Share of the common area's sides to keep, against lens distortion.
        colours: Give HR the brightness and colours of LR (match), or leave its own (keep).
    """

    lens: str = "identity"
    warp: Literal["auto", "radial", "none"] = "auto"
    edge: Annotated[int, Parameter(validator=Number(gte=0))] = 2
    centre: Annotated[float, Parameter(validator=Number(gt=0, lte=1))] = 1.0
    colours: Literal["match", "keep"] = "match"


@dataclass(frozen=True)
class DatasetOptions:
    """How to lay out the set.

    Attributes:
        layout: {train,val,test}/CAMERA_NNN_HR.png and _LRs.png (splits), or RealSR V3's tree.
        seed: Decides which scene goes to which split.
        val: Share of the scenes for validation.
        test: Share of the scenes for testing.
        licence: What the manifest says of the photographs.
    """

    layout: Literal["splits", "realsr"] = "splits"
    seed: int = 0
    val: _Share = 0.1
    test: _Share = 0.1
    licence: str = ""


@dataclass(frozen=True)
class Means:
    """With what.

    Attributes:
        jobs: Pairs to work on at once; all cores unless given, as far as memory goes.
        engine: Who does the work: processes here (local), or a Ray cluster (ray): the one that
            RAY_ADDRESS names, or one started here. Paths must mean the same on all its machines.
    """

    jobs: Annotated[PositiveInt | None, Parameter(name=("--jobs", "--workers"))] = None
    engine: Literal["local", "ray"] = "local"


def align(
    photos: Annotated[tuple[Path, ...], Parameter(negative=())],
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    scale: Annotated[PositiveInt, Parameter(name=("--scale", "-s"))] = 4,
    means: Annotated[Means, Parameter(name="*")] = Means(),
    geometry: Annotated[RegistrationOptions, Parameter(name="*")] = RegistrationOptions(),
    set_: Annotated[DatasetOptions, Parameter(name="*")] = DatasetOptions(),
) -> int:
    """Make training pairs of photographs of one scene taken wide and zoomed in.

    The wide photograph's pixels become LR as they are; the tele photograph is warped onto their
    grid times the scale by one interpolation and becomes HR. Pairs that can't be trusted are
    rejected, and listed with the reason in the report. The same call goes on where a killed one
    stopped. Exit code: 0 all pairs accepted, 1 some, 2 none.

    Args:
        photos: A folder of photographs, searched at any depth; or two files, WIDE and TELE, which
            are added to the set that earlier calls made in OUT.
        out: Folder for the pairs, their manifest.json and report.html.
        scale: HR pixels to an LR pixel; the focal lengths' ratio must reach 0.8 of it.
    """
    from d2csr.align.build import align_folder, align_pair, summary_text
    from d2csr.align.dataset import DatasetLayout
    from d2csr.align.registration.lens import lens_choice
    from d2csr.align.steps import Settings
    from d2csr.core.errors import UsageError

    if scale < 2:
        raise UsageError("--scale", f"{scale} enlarges nothing", remedy="Choose 2 or more.")
    if set_.val + set_.test >= 1:
        remedy = "Choose shares that leave some for training."
        raise UsageError("--val, --test", "take all scenes", remedy=remedy)
    settings = Settings(
        scale=scale,
        lens=lens_choice(geometry.lens),
        warp=geometry.warp,
        match_colours=geometry.colours == "match",
        edge_px=geometry.edge,
        centre=geometry.centre,
    )
    shape = DatasetLayout(scale, set_.layout, set_.seed, set_.val, set_.test, set_.licence)
    if len(photos) == 1:
        summary = align_folder(
            photos[0], out, settings=settings, shape=shape, jobs=means.jobs, engine=means.engine
        )
    elif len(photos) == 2:
        wide, tele = photos
        summary = align_pair(
            wide, tele=tele, out=out, settings=settings, shape=shape, engine=means.engine
        )
    else:
        remedy = "Give a folder, or the wide and the tele photograph."
        raise UsageError("photographs", f"are {len(photos)}", remedy=remedy)
    print(summary_text(summary))
    return summary.exit_code
