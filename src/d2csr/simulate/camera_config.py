"""Configuration of the simulated camera: physical values, of which YAML gives those that differ.

A `Range` is sampled once for each photograph, uniformly between its ends; one number means no
spread. The defaults were fitted to measurements of real zoom pairs (benchmarks/realism.py).
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from d2csr.core.errors import D2csrError
from d2csr.core.yaml_config import ConfigBase, read_settings


class CameraError(D2csrError):
    """A camera file with errors, or a scene that the camera can't photograph."""


def _to_range(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) else value


Pair = tuple[float, float]
Range = Annotated[Pair, BeforeValidator(_to_range)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Quality = Annotated[int, Field(ge=0, le=100)]
_OffsetMm = Annotated[float, Field(ge=-1000, le=1000)]
_Tilt = Annotated[float, Field(ge=-60, le=60)]
_Shear = Annotated[float, Field(ge=-0.2, le=0.2)]
_RANGES = (
    Pair,
    tuple[Positive, Positive],
    tuple[NonNegative, NonNegative],
    tuple[Quality, Quality],
    tuple[_Shear, _Shear],
    tuple[_Tilt, _Tilt],
)
PositiveRange = Annotated[tuple[Positive, Positive], BeforeValidator(_to_range)]
NonNegativeRange = Annotated[tuple[NonNegative, NonNegative], BeforeValidator(_to_range)]
QualityRange = Annotated[tuple[Quality, Quality], BeforeValidator(_to_range)]


class _Config(ConfigBase):
    """A section of the configuration: ranges are ascending."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_ranges(self) -> "_Config":
        for name, field in type(self).model_fields.items():
            if field.annotation in _RANGES:
                low, high = getattr(self, name)
                if low > high:
                    raise ValueError(f"{name} starts at {low:g}, above its end at {high:g}")
        return self


class SensorConfig(_Config):
    """The sensor, the same for both photographs; ranges are sampled once for the two.

    Attributes:
        pixel_pitch_um: side of a pixel, whose light-sensitive area is a square without gaps.
        cfa: color filter array: `rggb` is a Bayer mosaic, `none` measures all three colors in
            every pixel, which is closer to real pairs (docs/simulator.md).
        olpf_um: distance, along each axis, between the two spots into which an optical low-pass
            filter splits light; 0 is a sensor without one.
        sensitivity: of red, green and blue pixels to white light, relative to green.
        full_well_e: electrons that saturate a pixel at `base_iso`.
        base_iso: ISO of unit gain; twice the ISO saturates at half the electrons.
        read_noise_e: standard deviation of the read noise, in electrons.
        adc_bits: of the analog-to-digital converter.
    """

    pixel_pitch_um: Positive = 3.92
    cfa: Literal["rggb", "none"] = "none"
    olpf_um: Range = (0.0, 3.4)
    sensitivity: tuple[Positive, Positive, Positive] = (0.55, 1.0, 0.7)
    full_well_e: Positive = 45000.0
    base_iso: Positive = 100.0
    read_noise_e: NonNegative = 3.0
    adc_bits: Annotated[int, Field(ge=8, le=16)] = 14


class LensConfig(_Config):
    """The lens at one focal length.

    "Corner" means the corner of a sensor as wide as the tele frame.

    Attributes:
        f_number: focal length divided by the diameter of the aperture.
        psf_sigma_um: standard deviation of the Gaussian PSF of aberrations in the centre.
        corner_psf_sigma_um: what the corner adds to it; variances add, growing with radius squared.
        defocus_um: distance of the sensor from the image plane of the backdrop.
        k1: radial distortion: displacement in the corner as a share of its radius; below 0 barrel.
        k2: the same, growing with the fourth power.
        k3: the same, growing with the sixth power.
        p1: tangential distortion (decentring), likewise as a share; Brown's first.
        p2: Brown's second.
        vignetting_stops: light lost in the corner, growing with radius squared.
    """

    f_number: Range = (5.6, 8.0)
    psf_sigma_um: Range = (0.8, 1.4)
    corner_psf_sigma_um: Range = (1.0, 2.0)
    defocus_um: Range = (-6.0, 6.0)
    k1: Range = 0.0  # pyright: ignore[reportAssignmentType] - one number means no spread
    k2: Range = 0.0  # pyright: ignore[reportAssignmentType]
    k3: Range = 0.0  # pyright: ignore[reportAssignmentType]
    p1: Range = 0.0  # pyright: ignore[reportAssignmentType]
    p2: Range = 0.0  # pyright: ignore[reportAssignmentType]
    vignetting_stops: Range = (0.2, 0.5)

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class OpticsConfig(_Config):
    """The zoom lens.

    Attributes:
        focal_mm: focal length of the wide photograph.
        zoom_error: deviation of the tele focal length from `focal_mm` times the scale, as a share.
        wavelengths_nm: of red, green and blue light, for diffraction.
        wide: the lens at its wide end.
        tele: the lens zoomed in.
    """

    focal_mm: Positive = 18.0
    zoom_error: Range = (-0.02, 0.02)
    wavelengths_nm: tuple[Positive, Positive, Positive] = (610.0, 540.0, 465.0)
    wide: LensConfig = LensConfig(
        f_number=(3.5, 5.0),
        psf_sigma_um=(0.3, 1.8),
        k1=(-0.06, -0.04),
        k2=(0.0, 0.01),
        p1=(-5e-4, 5e-4),
        p2=(-5e-4, 5e-4),
    )
    tele: LensConfig = LensConfig(k1=(0.0, 0.01), p1=(-5e-4, 5e-4), p2=(-5e-4, 5e-4))


class PoseConfig(_Config):
    """Deviation of each photograph's camera from one that faces the backdrop.

    Attributes:
        tilt_deg: rotation about the vertical and about the horizontal axis, sampled separately.
        roll_deg: rotation about the optical axis.
        translation_mm: along each of the three axes, sampled separately.
        baseline_mm: right and down from the wide to the tele lens, which lie beside each other in
            a phone.
        stabilization_px: displacement of the optical axis by the stabilizer, in wide or tele
            pixels, along both axes, sampled separately.
        shear: displacement in pixels per row, along both axes, sampled separately: the camera
            moves while a rolling shutter reads the rows.
    """

    tilt_deg: Range = (-0.1, 0.1)
    roll_deg: Range = (-0.5, 0.5)
    translation_mm: Range = (-5.0, 5.0)
    baseline_mm: tuple[_OffsetMm, _OffsetMm] = (0.0, 0.0)
    stabilization_px: Range = (0.0, 0.0)
    shear: Annotated[tuple[_Shear, _Shear], BeforeValidator(_to_range)] = (0.0, 0.0)


class SceneConfig(_Config):
    """The scene: a photo as the backdrop, and pieces of it as nearer planes.

    Attributes:
        distance_m: from the camera to the backdrop, on which the lens focuses.
        layers: number of planes in front of the backdrop.
        layer_distance: their distance as a share of the backdrop's.
        layer_area: share of the image that a plane covers.
        plane_tilt_deg: rotation of every plane about its vertical and its horizontal axis, sampled
            separately.
        px_per_tele_px: pixels of the photo per tele pixel, in the centre.
        wide_fields: width of a captured wide frame, in tele frames.
        procedural_px: width and height of the scenes made with `--procedural`.
    """

    distance_m: Positive = 5.0
    layers: Annotated[int, Field(ge=0, le=8)] = 0
    layer_distance: Range = (0.75, 0.95)
    layer_area: Range = (0.05, 0.15)
    plane_tilt_deg: Annotated[tuple[_Tilt, _Tilt], BeforeValidator(_to_range)] = (0.0, 0.0)
    px_per_tele_px: Range = (1.0, 1.25)
    wide_fields: Annotated[float, Field(ge=1)] = 1.5
    procedural_px: tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]] = (2400, 1600)


class ExposureConfig(_Config):
    """The exposure of each photograph.

    Attributes:
        iso: sensitivity.
        frames: exposures averaged, which stands for a camera's noise reduction in flat areas.
        time_s: exposure time of the wide photograph at `error_ev` 0; only EXIF depends on it.
        error_ev: deviation, in stops, from the exposure at which white just saturates.
        hr_frames: exposures averaged for the HR images of pairs; None: as many as `frames`.
    """

    iso: Range = (100.0, 200.0)
    frames: Annotated[int, Field(ge=1)] = 4
    time_s: Positive = 1 / 60
    error_ev: Range = (-0.2, 0.0)
    hr_frames: Annotated[int, Field(ge=1)] | None = None


class IspConfig(_Config):
    """The image signal processor: from raw values to an image file.

    Attributes:
        white_balance_error: of the red and the blue gain, sampled separately, as a share.
        contrast: slope of the tone curve in the middle, on top of sRGB's own; 1 changes nothing.
        noise_reduction: gray levels within which neighboring pixels are averaged (bilateral filter,
            radius 3 px); 0 averages none. More smears fine texture, as phones do. Like the next
            two and the quality, it is sampled once for both photographs.
        sharpening: amount of the unsharp mask.
        sharpening_radius_px: standard deviation of the unsharp mask's Gaussian.
        format: of captured frames.
        jpeg_quality: 1..100; the images of pairs are compressed too; 0 leaves them uncompressed.
        jpeg_subsampling: chroma at every pixel (444), or at every second row and column (420).
    """

    white_balance_error: Range = (-0.02, 0.02)
    contrast: Annotated[float, Field(ge=0.5, le=1.5)] = 1.0
    noise_reduction: NonNegativeRange = (0.0, 0.0)
    sharpening: Range = (0.1, 0.9)
    sharpening_radius_px: PositiveRange = (1.0, 1.0)
    format: Literal["jpeg", "tiff", "png"] = "jpeg"
    jpeg_quality: QualityRange = (97, 97)
    jpeg_subsampling: Literal["444", "420"] = "444"


class ExifConfig(_Config):
    """The EXIF of captured frames.

    Attributes:
        make: maker of the camera.
        model: name of the camera, also used in the file names of pairs.
        crop_factor: ratio of the 35 mm equivalent to the focal length.
        start_time: of the first photograph, YYYY:MM:DD HH:MM:SS.
        seconds_between: from a scene's wide photograph to its tele photograph; scenes are one
            minute apart.
    """

    make: str = "d2csr"
    model: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")] = "Simulated"
    crop_factor: Positive = 1.5
    start_time: Annotated[str, Field(pattern=r"^\d{4}:\d\d:\d\d \d\d:\d\d:\d\d$")] = (
        "2024:01:01 12:00:00"
    )
    seconds_between: Annotated[int, Field(ge=0, le=59)] = 4


class CameraConfig(_Config):
    """A zoom camera, or a camera with two lenses; its pose, and the scene in front of it.

    Captured tele frames are processed by `tele_isp`, if it is given, as phones process each lens
    in its own way. The HR images of pairs are processed by `hr_isp`, as by a better camera.
    """

    sensor: SensorConfig = SensorConfig()
    optics: OpticsConfig = OpticsConfig()
    pose: PoseConfig = PoseConfig()
    scene: SceneConfig = SceneConfig()
    exposure: ExposureConfig = ExposureConfig()
    isp: IspConfig = IspConfig()
    exif: ExifConfig = ExifConfig()
    hr_isp: IspConfig | None = None
    tele_isp: IspConfig | None = None


# Keys of files written before the standard terms; the error message names the new key.
_RENAMED_KEYS = {
    "development": "isp",
    "pixel_um": "pixel_pitch_um",
    "mosaic": "cfa",
    "bits": "adc_bits",
    "blur_um": "psf_sigma_um",
    "corner_blur_um": "corner_psf_sigma_um",
    "shift_mm": "translation_mm",
    "exposure_s": "time_s",
    "jpeg_chroma": "jpeg_subsampling",
    "start": "start_time",
}


def read_camera_config(path: Path) -> CameraConfig:
    """Return the camera in a YAML file; what the file leaves out keeps its default.

    Raises:
        CameraError: the file is unreadable, no YAML, or has errors; each is listed with its line.
    """
    remedy = "Give a YAML file as in docs/simulator.md."
    return read_settings(
        path, CameraConfig, error_type=CameraError, remedy=remedy, renamed=_RENAMED_KEYS
    )
