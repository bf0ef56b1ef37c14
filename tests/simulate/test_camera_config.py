"""The configuration of the camera: its YAML files, and that every value has an effect."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from d2csr.core.geometry import Size
from d2csr.simulate.camera_config import CameraConfig, CameraError, read_camera_config
from d2csr.simulate.outputs import SceneJob, make_capture, make_pair
from d2csr.simulate.scene import Procedural

# Of every value, another one. `k3`, `p1` and the like move a frame of 100 px by little.
OTHERS: dict[str, Any] = {
    "sensor.pixel_pitch_um": 5.0, "sensor.cfa": "rggb", "sensor.olpf_um": 9.0,
    "sensor.sensitivity": [0.3, 1.0, 0.5], "sensor.full_well_e": 5000.0, "sensor.base_iso": 50.0,
    "sensor.read_noise_e": 60.0, "sensor.adc_bits": 8,
    "optics.focal_mm": 25.0, "optics.zoom_error": 0.1, "optics.wavelengths_nm": [800, 700, 600],
    **{
        f"optics.{end}.{name}": value
        for end in ("wide", "tele")
        for name, value in {
            "f_number": 16.0, "psf_sigma_um": 5.0, "corner_psf_sigma_um": 9.0, "defocus_um": 60.0,
            "k1": -0.1, "k2": -0.05, "k3": -0.05, "p1": 0.02, "p2": 0.02, "vignetting_stops": 2.0,
        }.items()
    },
    "pose.tilt_deg": 0.05, "pose.roll_deg": 4.0, "pose.translation_mm": 2.0,
    "pose.baseline_mm": [8.0, 3.0], "pose.stabilization_px": 3.0, "pose.shear": 0.03,
    "scene.distance_m": 6.0, "scene.layers": 2, "scene.layer_distance": 0.5,
    "scene.layer_area": 0.4, "scene.plane_tilt_deg": 4.0,
    "scene.px_per_tele_px": 1.0, "scene.wide_fields": 1.9,
    "scene.procedural_px": [120, 130],
    "exposure.iso": 6400.0, "exposure.frames": 1, "exposure.time_s": 0.5,
    "exposure.error_ev": -1.0,
    "isp.white_balance_error": 0.1, "isp.contrast": 1.3,
    "isp.noise_reduction": 20.0, "isp.sharpening": 0.0, "isp.sharpening_radius_px": 2.0,
    "isp.format": "png", "isp.jpeg_quality": 40,
    "isp.jpeg_subsampling": "420",
    "exif.make": "Other", "exif.model": "Other", "exif.crop_factor": 2.0,
    "tele_isp": {"sharpening": 2.0},
    "exif.start_time": "2025:01:01 12:00:00", "exif.seconds_between": 9,
}  # fmt: skip
# Of every value that has no effect on captures, only on pairs.
OTHERS_OF_PAIRS: dict[str, Any] = {"exposure.hr_frames": 64, "hr_isp": {"sharpening": 2.0}}
BASE = {"scene": {"layers": 1, "layer_area": 0.2, "procedural_px": [130, 120]}}


def leaves(part: BaseModel, above: str = "") -> Iterator[str]:
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def camera_with(changes: dict[str, Any]) -> CameraConfig:
    values = CameraConfig.model_validate(BASE).model_dump()
    for place, value in changes.items():
        *parts, name = place.split(".")
        part = values
        for each in parts:
            part = part[each]
        part[name] = value
    return CameraConfig.model_validate(values)


def files_of(camera: CameraConfig, folder, make=make_capture) -> dict[str, bytes]:
    folder.mkdir()
    source = Procedural(Size(*camera.scene.procedural_px), (1, 2))
    order = SceneJob(source, "001", "", scale=2, kind=camera, seed=(3, 4), index=0)
    make(order, folder)
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_value_changes_the_output(tmp_path, monkeypatch):
    monkeypatch.setattr("d2csr.core.files.flush_to_disk", lambda path: None)  # 200 files
    assert {*OTHERS, *OTHERS_OF_PAIRS} == set(leaves(CameraConfig()))
    base = files_of(camera_with({}), tmp_path / "base")
    assert files_of(camera_with({}), tmp_path / "again") == base
    idle = [
        place
        for place, value in OTHERS.items()
        if files_of(camera_with({place: value}), tmp_path / place) == base
    ]
    assert idle == []


def test_values_of_the_hr_image_change_it_and_not_lr(tmp_path):
    base = files_of(camera_with({}), tmp_path / "base", make_pair)
    for place, value in OTHERS_OF_PAIRS.items():
        found = files_of(camera_with({place: value}), tmp_path / place, make_pair)
        assert found["001_LR2.png"] == base["001_LR2.png"]
        assert found["001_HR.png"] != base["001_HR.png"]


def test_a_file_overrides_the_defaults_that_it_names(tmp_path):
    file = tmp_path / "camera.yaml"
    file.write_text("sensor: {pixel_pitch_um: 1.22}\noptics:\n  tele: {f_number: [2.0, 2.8]}\n")
    camera = read_camera_config(file)
    assert camera.sensor.pixel_pitch_um == 1.22
    assert camera.optics.tele.f_number == (2.0, 2.8)
    assert camera.scene == CameraConfig().scene


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sensor:\n  pixel: 3\n",
            "line 2: sensor.pixel: unknown key; the nearest .* pixel_pitch_um",
        ),
        ("scene: {}\ndevelopment: {}\n", "line 2: development: unknown key; it is now called isp"),
        ("optics: {tele: {blur_um: 1}}\n", "optics.tele.blur_um: .* it is now called psf_sigma_um"),
        ("pose: {roll_deg: [3, 1]}\n", "line 1: pose: .*roll_deg starts at 3"),
        ("optics: {focal_mm: -1}\n", "line 1: optics.focal_mm: must be above 0"),
        ("[]\n", "holds no settings"),
    ],
)
def test_errors_are_listed_with_their_line(tmp_path, text, message):
    (tmp_path / "camera.yaml").write_text(text)
    with pytest.raises(CameraError, match=message):
        read_camera_config(tmp_path / "camera.yaml")
