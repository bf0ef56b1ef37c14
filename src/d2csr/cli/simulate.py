"""Command `simulate`: zoom pairs from sharp photos, by a simulated camera."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt
from cyclopts.validators import Number

Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]


def simulate(  # noqa: PLR0913 - one parameter an option
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    scale: Annotated[PositiveInt, Parameter(name=("--scale", "-s"))],
    photos: Annotated[
        tuple[Path, ...],
        Parameter(name=("--input", "-i"), consume_multiple=True, negative=()),
    ] = (),
    procedural: NonNegativeInt = 0,
    captures: bool = False,
    config: Path | None = None,
    seed: NonNegativeInt = 0,
    shots: PositiveInt = 1,
    val: Share = 0.1,
    test: Share = 0.1,
    licence: str = "",
    jobs: PositiveInt = 1,
) -> int:
    """Take photos anew with a simulated zoom camera: training pairs, or frames to align.

    Args:
        out: New folder for the images.
        scale: Tele focal length by wide focal length.
        photos: Sharp photos to stand before the camera, or folders of them.
        procedural: How many scenes of text, texture and edges to draw by chance as well.
        captures: Whole wide and tele frames with EXIF, and their truth, instead of pairs.
        config: YAML file of the camera's values that differ from the default.
        seed: Decides every draw: the same seed makes the same images.
        shots: How often each scene is taken, every time with other draws.
        val: Share of the scenes that become the split `val`; pairs only.
        test: Share of the scenes that become the split `test`; pairs only.
        licence: What the manifest says about the photos' licence; pairs only.
        jobs: Processes; each needs about 0.5 GB for photos of 3 megapixels.
    """
    from d2csr.core.errors import UsageError
    from d2csr.core.geometry import Size
    from d2csr.simulate.camera_config import Camera, read_camera
    from d2csr.simulate.generate import SimulationOptions
    from d2csr.simulate.generate import simulate as run
    from d2csr.simulate.scene import Procedural, photos_in

    camera = Camera() if config is None else read_camera(config)
    drawn = [
        Procedural(Size(*camera.scene.procedural_px), (seed, number))
        for number in range(procedural)
    ]
    sources = (*photos_in(photos, out=out), *drawn)
    if not sources:
        remedy = "Give photos with -i, or a number of scenes with --procedural."
        raise UsageError("simulate", "has nothing to take", remedy=remedy)
    job = SimulationOptions(
        scale=scale,
        camera=camera,
        seed=seed,
        captures=captures,
        shots=shots,
        val=val,
        test=test,
        licence=licence,
        jobs=jobs,
    )
    made = run(sources, out, job=job)
    what = "capture" if captures else "pair"
    print(f"{out}: {made} {what}{'' if made == 1 else 's'} of scale {scale}")
    return 0
