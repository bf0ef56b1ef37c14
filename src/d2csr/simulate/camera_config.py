"""The camera: a typed tree of physical values; YAML says only what differs from the default.

Wherever a `Range` stands, each photograph draws its own value between the two ends; one number
means no spread. The defaults were set by measuring real zoom pairs (benchmarks/realism.py).
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from d2csr.core.errors import D2csrError
from d2csr.core.yaml_config import read_settings


class CameraError(D2csrError):
    """A camera file with errors, or a scene the camera can't take."""


def _as_range(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) else value


def _in_order(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"starts at {value[0]:g} and ends before it, at {value[1]:g}")
    return value


Pair = tuple[float, float]
Range = Annotated[Pair, BeforeValidator(_as_range)]
Positive = Annotated[float, Field(gt=0)]
Least = Annotated[float, Field(ge=0)]


class Part(BaseModel):
    """A part of the camera: frozen, unknown keys are errors, ranges run upwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ranges_run_upwards(self) -> "Part":
        for name, field in type(self).model_fields.items():
            if field.annotation == Pair:
                try:
                    _in_order(getattr(self, name))
                except ValueError as error:
                    raise ValueError(f"{name} {error}") from error
        return self


class SensorPart(Part):
    """The sensor, the same for both photographs; a range is drawn once for the two.

    Attributes:
        pixel_um: pitch of the pixels; their light-sensitive area is a square of this side.
        mosaic: colour filters, red in the top left corner; `none` measures three colours in each,
            which real pairs come closer to (docs/simulator.md).
        olpf_um: distance between the two spots (along each axis) that an optical low-pass filter
            splits light into; 0 is a sensor without one.
        sensitivity: electrons that white light frees in red, green and blue pixels, green = 1.
        full_well_e: electrons at which a pixel is full, at `base_iso`.
        base_iso: ISO of unit gain; twice the ISO saturates at half the electrons.
        read_noise_e: standard deviation of reading, electrons.
        bits: of the converter.
    """

    pixel_um: Positive = 3.92
    mosaic: Literal["rggb", "none"] = "none"
    olpf_um: Range = (0.0, 3.4)
    sensitivity: tuple[Positive, Positive, Positive] = (0.55, 1.0, 0.7)
    full_well_e: Positive = 45000.0
    base_iso: Positive = 100.0
    read_noise_e: Least = 3.0
    bits: Annotated[int, Field(ge=8, le=16)] = 14


class LensPart(Part):
    """The lens at one focal length.

    The corner, in which some of these are stated, is that of the sensor as wide as the tele frame.

    Attributes:
        f_number: focal length by diameter of the aperture.
        blur_um: aberration in the centre, as the standard deviation of a Gaussian on the sensor.
        corner_blur_um: further aberration in the corner; variances add, growing as radius squared.
        defocus_um: distance of the sensor from the image of the backdrop.
        k1: radial distortion: displacement in the corner as a share of its radius; below 0 barrel.
        k2: the same, growing with the fourth power.
        k3: the same, growing with the sixth power.
        p1: tangential distortion (decentring), likewise as a share; Brown's first.
        p2: Brown's second.
        vignetting_stops: light lost in the corner, as radius squared.
    """

    f_number: Range = (5.6, 8.0)
    blur_um: Range = (0.8, 1.4)
    corner_blur_um: Range = (1.0, 2.0)
    defocus_um: Range = (-6.0, 6.0)
    k1: Range = 0.0  # pyright: ignore[reportAssignmentType] - one number means no spread
    k2: Range = 0.0  # pyright: ignore[reportAssignmentType]
    k3: Range = 0.0  # pyright: ignore[reportAssignmentType]
    p1: Range = 0.0  # pyright: ignore[reportAssignmentType]
    p2: Range = 0.0  # pyright: ignore[reportAssignmentType]
    vignetting_stops: Range = (0.2, 0.5)

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class OpticsPart(Part):
    """The zoom lens, and what holds at both of its ends.

    Attributes:
        focal_mm: focal length of the wide photograph.
        zoom_error: by how much the tele focal length misses `focal_mm` times the scale, a share.
        wavelengths_nm: of red, green and blue light, for diffraction.
        wide: the lens at its wide end.
        tele: the lens zoomed in.
    """

    focal_mm: Positive = 18.0
    zoom_error: Range = (-0.02, 0.02)
    wavelengths_nm: tuple[Positive, Positive, Positive] = (610.0, 540.0, 465.0)
    wide: LensPart = LensPart(
        f_number=(3.5, 5.0),
        blur_um=(0.3, 1.8),
        k1=(-0.06, -0.04),
        k2=(0.0, 0.01),
        p1=(-5e-4, 5e-4),
        p2=(-5e-4, 5e-4),
    )
    tele: LensPart = LensPart(k1=(0.0, 0.01), p1=(-5e-4, 5e-4), p2=(-5e-4, 5e-4))


class PosePart(Part):
    """How each photograph's camera stands, about one that faces the backdrop.

    Attributes:
        tilt_deg: turn about the vertical, and about the horizontal axis, drawn apart.
        roll_deg: turn about the optical axis.
        shift_mm: displacement along each of the three axes, drawn apart.
    """

    tilt_deg: Range = (-0.1, 0.1)
    roll_deg: Range = (-0.5, 0.5)
    shift_mm: Range = (-5.0, 5.0)


class ScenePart(Part):
    """What stands before the camera: the photo as a backdrop, pieces of it as nearer planes.

    Attributes:
        distance_m: from the camera to the backdrop, on which it focuses.
        layers: planes in front of the backdrop.
        layer_distance: their distance as a share of the backdrop's.
        layer_area: share of the image that a plane covers.
        px_per_tele_px: pixels of the photo to a tele pixel, in the centre.
        wide_fields: width of the captured wide frame, in tele frames.
        procedural_px: width and height of scenes made by `--procedural`.
    """

    distance_m: Positive = 5.0
    layers: Annotated[int, Field(ge=0, le=8)] = 0
    layer_distance: Range = (0.75, 0.95)
    layer_area: Range = (0.05, 0.15)
    px_per_tele_px: Range = (1.0, 1.25)
    wide_fields: Annotated[float, Field(ge=1)] = 1.5
    procedural_px: tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]] = (2400, 1600)


class ExposurePart(Part):
    """How much light each photograph takes.

    Attributes:
        iso: sensitivity set.
        frames: exposures averaged; what a camera's noise reduction amounts to in flat places.
        exposure_s: time of the wide photograph at `error_ev` 0; EXIF tells each one's own.
        error_ev: exposure of a photograph, in stops about the one that makes white just white.
    """

    iso: Range = (100.0, 200.0)
    frames: Annotated[int, Field(ge=1)] = 4
    exposure_s: Positive = 1 / 60
    error_ev: Range = (-0.2, 0.0)


class DevelopmentPart(Part):
    """From the sensor's numbers to an image file.

    Attributes:
        white_balance_error: of the red and the blue gain, drawn apart, a share.
        contrast: slope of the tone curve in the middle, on top of sRGB's own; 1 leaves it.
        sharpening: share of the detail, as an unsharp mask finds it, that is added to it; drawn
            once for both photographs.
        sharpening_radius_px: standard deviation of that mask.
        format: of captured frames.
        jpeg_quality: 1..100; images of pairs pass through it too; 0 leaves JPEG out of pairs.
        jpeg_chroma: chroma of every pixel (444), or of every second one across and down (420).
    """

    white_balance_error: Range = (-0.02, 0.02)
    contrast: Annotated[float, Field(ge=0.5, le=1.5)] = 1.0
    sharpening: Range = (0.1, 0.9)
    sharpening_radius_px: Positive = 1.0
    format: Literal["jpeg", "tiff", "png"] = "jpeg"
    jpeg_quality: Annotated[int, Field(ge=0, le=100)] = 97
    jpeg_chroma: Literal["444", "420"] = "444"


class ExifPart(Part):
    """What the files say about the camera.

    Attributes:
        make: its maker.
        model: its name, also in the images' file names.
        crop_factor: focal length in 35 mm terms by focal length.
        start: time of the first photograph, YYYY:MM:DD HH:MM:SS.
        seconds_between: from a scene's wide photograph to its tele photograph; scenes are a
            minute apart.
    """

    make: str = "d2csr"
    model: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")] = "Simulated"
    crop_factor: Positive = 1.5
    start: Annotated[str, Field(pattern=r"^\d{4}:\d\d:\d\d \d\d:\d\d:\d\d$")] = (
        "2024:01:01 12:00:00"
    )
    seconds_between: Annotated[int, Field(ge=0, le=59)] = 4


class Camera(Part):
    """A zoom camera, the way it is held, and what stands before it."""

    sensor: SensorPart = SensorPart()
    optics: OpticsPart = OpticsPart()
    pose: PosePart = PosePart()
    scene: ScenePart = ScenePart()
    exposure: ExposurePart = ExposurePart()
    development: DevelopmentPart = DevelopmentPart()
    exif: ExifPart = ExifPart()


def read_camera(path: Path) -> Camera:
    """Return the camera in a YAML file.

    Raises:
        CameraError: unreadable, no YAML, or errors in it, each told with its line.
    """
    remedy = "Give a YAML file; docs/simulator.md shows one."
    return read_settings(path, Camera, error_type=CameraError, remedy=remedy)
