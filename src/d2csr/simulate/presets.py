"""Presets of `d2csr simulate`: the kinds of images that photographers and web pages have.

A preset is a table of kinds with their shares; each pair draws one of them, then its values. The
ranges were set by measurements of real pairs that may choose settings (docs/log.md).
"""

from collections.abc import Mapping

from d2csr.simulate.camera_config import (
    CameraConfig,
    ExifConfig,
    ExposureConfig,
    IspConfig,
    LensConfig,
    OpticsConfig,
    SensorConfig,
)
from d2csr.simulate.web import WebConfig

Kind = CameraConfig | WebConfig
Mixture = tuple[tuple[float, Kind], ...]  # shares of the pairs, and their kinds

_TELE = {"k1": (0.0, 0.01), "p1": (-5e-4, 5e-4), "p2": (-5e-4, 5e-4)}
_WIDE = {"k1": (-0.06, -0.04), "k2": (0.0, 0.01), "p1": (-5e-4, 5e-4), "p2": (-5e-4, 5e-4)}

# Moderately soft optics, and an unsharp mask of two pixels or more, which the JPEG files of SLR
# cameras have nearly all alike.
_SLR = CameraConfig(
    sensor=SensorConfig(olpf_um=(2.0, 3.8), read_noise_e=4),
    optics=OpticsConfig(
        wide=LensConfig(
            f_number=(4.0, 8.0), psf_sigma_um=(0.3, 1.5), corner_psf_sigma_um=(0.5, 1.0), **_WIDE
        ),
        tele=LensConfig(
            f_number=(5.6, 9.0), psf_sigma_um=(0.8, 2.4), corner_psf_sigma_um=(0.5, 1.0), **_TELE
        ),
    ),
    exposure=ExposureConfig(iso=(100, 800), frames=3),
    isp=IspConfig(sharpening=(0.3, 1.1), sharpening_radius_px=(1.8, 3.0), jpeg_quality=(92, 98)),
    exif=ExifConfig(model="Slr"),
)
# Softer optics, and a narrower mask from nearly none to a strong one.
_SOFT = CameraConfig(
    sensor=SensorConfig(olpf_um=(2.6, 5.2), read_noise_e=4),
    optics=OpticsConfig(
        wide=LensConfig(f_number=(4.0, 8.0), psf_sigma_um=(0.5, 2.4), **_WIDE),
        tele=LensConfig(
            f_number=(5.6, 9.0), psf_sigma_um=(0.8, 3.6), defocus_um=(-10.0, 10.0), **_TELE
        ),
    ),
    exposure=ExposureConfig(iso=(100, 800), frames=2),
    isp=IspConfig(sharpening=(0.1, 1.4), sharpening_radius_px=(1.2, 2.0), jpeg_quality=(92, 98)),
    exif=ExifConfig(model="Soft"),
)
# From no low-pass filter to a strong one, and from no sharpening to a narrow halo.
_BROAD = CameraConfig(
    sensor=SensorConfig(olpf_um=(0.0, 4.4)),
    optics=OpticsConfig(
        wide=LensConfig(f_number=(3.5, 8.0), psf_sigma_um=(0.3, 2.4), **_WIDE),
        tele=LensConfig(
            f_number=(5.6, 9.0), psf_sigma_um=(0.6, 2.6), defocus_um=(-8.0, 8.0), **_TELE
        ),
    ),
    exposure=ExposureConfig(iso=(100, 800), frames=3),
    isp=IspConfig(sharpening=(0.0, 1.5), sharpening_radius_px=(0.7, 1.5), jpeg_quality=(90, 98)),
    exif=ExifConfig(model="Broad"),
)
# A mosaic, more noise and its reduction, stronger compression: a compact camera.
_COMPACT = CameraConfig(
    sensor=SensorConfig(cfa="rggb", olpf_um=(0.0, 4.0), full_well_e=20000, read_noise_e=4),
    optics=OpticsConfig(
        wide=LensConfig(f_number=(2.8, 6.0), psf_sigma_um=(0.4, 2.4), **_WIDE),
        tele=LensConfig(
            f_number=(4.0, 8.0), psf_sigma_um=(0.6, 2.4), defocus_um=(-8.0, 8.0), **_TELE
        ),
    ),
    exposure=ExposureConfig(iso=(100, 1600), frames=1, hr_frames=8),
    isp=IspConfig(
        noise_reduction=(0.0, 10.0),
        sharpening=(0.2, 1.5),
        sharpening_radius_px=(0.8, 1.6),
        jpeg_quality=(84, 96),
    ),
    hr_isp=IspConfig(sharpening=(0.2, 0.8), jpeg_quality=(97, 97)),
    exif=ExifConfig(model="Compact"),
)
# Small pixels, several frames merged, strong noise reduction and sharpening; HR is what a better
# camera would record.
_PHONE = CameraConfig(
    sensor=SensorConfig(
        pixel_pitch_um=1.4,
        olpf_um=(0.0, 0.0),
        full_well_e=6000,
        base_iso=50,
        read_noise_e=2,
        adc_bits=12,
    ),
    optics=OpticsConfig(
        focal_mm=5.0,
        wide=LensConfig(
            f_number=(1.6, 2.4),
            psf_sigma_um=(0.2, 0.9),
            corner_psf_sigma_um=(0.2, 0.7),
            defocus_um=(-2.0, 2.0),
            **_WIDE,
        ),
        tele=LensConfig(
            f_number=(1.8, 2.8),
            psf_sigma_um=(0.2, 0.6),
            corner_psf_sigma_um=(0.1, 0.4),
            defocus_um=(-1.5, 1.5),
            **_TELE,
        ),
    ),
    exposure=ExposureConfig(iso=(50, 640), frames=3, hr_frames=32),
    isp=IspConfig(
        noise_reduction=(3.0, 18.0),
        sharpening=(0.4, 2.0),
        sharpening_radius_px=(0.6, 1.5),
        jpeg_quality=(80, 96),
        jpeg_subsampling="420",
    ),
    hr_isp=IspConfig(sharpening=(0.1, 0.5), jpeg_quality=(97, 97)),
    exif=ExifConfig(model="Phone"),
)
_PHONE_MOSAIC = _PHONE.model_copy(
    update={"sensor": _PHONE.sensor.model_copy(update={"cfa": "rggb"})}
)
_WEB = WebConfig(
    kernels={
        "cubic": 0.25,
        "lanczos3": 0.22,
        "area": 0.2,
        "matlab": 0.1,
        "linear": 0.1,
        "lanczos2": 0.05,
        "mitchell": 0.05,
        "nearest": 0.03,
    },
    twice=0.35,
    linear_light=0.12,
    sharpened=0.4,
    codecs={"jpeg": 0.65, "webp": 0.2, "none": 0.15},
)
_BICUBIC = WebConfig(name="Bicubic", kernels={"matlab": 1.0}, codecs={"none": 1.0})

PRESETS: Mapping[str, Mixture] = {
    "camera": ((0.5, _SLR), (0.1, _SOFT), (0.25, _BROAD), (0.15, _COMPACT)),
    "phone": ((0.6, _PHONE), (0.4, _PHONE_MOSAIC)),
    "web": ((1.0, _WEB),),
    "bicubic": ((1.0, _BICUBIC),),
}
