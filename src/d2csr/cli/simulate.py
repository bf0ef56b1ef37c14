"""The command `simulate`: training pairs from sharp photos, by a simulated zoom camera."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt
from cyclopts.validators import Number

from d2csr.core.console import print_line

if TYPE_CHECKING:
    from d2csr.simulate.camera_config import CameraConfig
    from d2csr.simulate.presets import Mixture
    from d2csr.simulate.scene import Source

Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]


@dataclass(frozen=True)
class SceneOptions:
    """The scenes to photograph.

    Attributes:
        photos: Sharp photos to place in front of the camera, or folders of them.
        procedural: Number of random scenes of text, texture and edges to add.
        shots: Photographs of each scene, each with new random values.
    """

    photos: Annotated[
        tuple[Path, ...],
        Parameter(name=("--input", "-i"), consume_multiple=True, negative=()),
    ] = ()
    procedural: NonNegativeInt = 0
    shots: PositiveInt = 1


@dataclass(frozen=True)
class PairOptions:
    """The dataset of pairs; without effect on captures.

    Attributes:
        val: Share of the scenes in the split `val`.
        test: Share of the scenes in the split `test`.
        licence: Licence of the photos, for the manifest.
    """

    val: Share = 0.1
    test: Share = 0.1
    licence: str = ""


def simulate(  # noqa: PLR0913 - one parameter per option
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    scale: Annotated[PositiveInt, Parameter(name=("--scale", "-s"))],
    scenes: Annotated[SceneOptions, Parameter(name="*")] = SceneOptions(),
    pairs: Annotated[PairOptions, Parameter(name="*")] = PairOptions(),
    captures: bool = False,
    preset: Literal["camera", "phone", "web", "bicubic"] | None = None,
    config: Path | None = None,
    seed: NonNegativeInt = 0,
    workers: PositiveInt = 1,
) -> int:
    """Photograph sharp photos with a simulated zoom camera: training pairs, or frames to align.

    Args:
        output: New folder for the images.
        scale: Tele focal length divided by wide focal length.
        captures: Write whole wide and tele frames with EXIF and ground truth, instead of pairs.
        preset: Kind of pairs: cameras of wide ranges, phones with their smear and sharpening,
            images as on web pages (reduced, sharpened, compressed), or clean bicubic reductions;
            by default one camera.
        config: YAML file with the camera's values that differ from the defaults.
        seed: Determines every random value: the same seed gives the same images.
        workers: Processes; each needs about 0.5 GB for photos of 3 megapixels.
    """
    from d2csr.simulate.generate import SimulationOptions
    from d2csr.simulate.generate import simulate as run

    camera, mixture = _kinds(preset, config)
    options = SimulationOptions(
        scale, camera, seed, captures, scenes.shots, pairs.val, pairs.test, pairs.licence, workers,
        mixture=mixture,
    )  # fmt: skip
    size_px = camera.scene.procedural_px
    count = run(_sources(scenes, size_px, output=output, seed=seed), output, options=options)
    noun = "capture" if captures else "pair"
    print_line(f"{output}: {count} {noun}{'' if count == 1 else 's'} of scale {scale}")
    return 0


def _kinds(preset: str | None, config: Path | None) -> "tuple[CameraConfig, Mixture]":
    """Return the camera, and the kinds of pairs to make instead, if a preset names them."""
    from d2csr.core.errors import UsageError
    from d2csr.simulate.camera_config import CameraConfig, read_camera_config
    from d2csr.simulate.presets import PRESETS

    if preset is not None and config is not None:
        problem = "choose the camera in two ways"
        raise UsageError("--preset and --config", problem, "Give one of them.")
    camera = CameraConfig() if config is None else read_camera_config(config)
    return camera, () if preset is None else PRESETS[preset]


def _sources(
    scenes: SceneOptions, size_px: tuple[int, int], *, output: Path, seed: int
) -> tuple["Source", ...]:
    """Return the scenes: photos first, then procedural ones of this width and height."""
    from d2csr.core.errors import UsageError
    from d2csr.core.geometry import Size
    from d2csr.simulate.scene import Procedural, find_photos

    size = Size(*size_px)
    drawn = [Procedural(size, (seed, index)) for index in range(scenes.procedural)]
    sources = (*find_photos(scenes.photos, output=output), *drawn)
    if not sources:
        remedy = "Give photos with -i, or a number of scenes with --procedural."
        raise UsageError("simulate", "has no scenes", remedy)
    return sources
