"""The two photographs of a scene: parameters sampled from the camera's ranges, frames laid out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from d2csr.core.geometry import BrownDistortion, Size
from d2csr.simulate.camera_config import (
    CameraConfig,
    CameraError,
    IspConfig,
    LensConfig,
    PoseConfig,
)
from d2csr.simulate.geometry import View
from d2csr.simulate.isp import IspSettings, develop
from d2csr.simulate.rendering import Lens, Shot
from d2csr.simulate.scene import Plane, Scene, build_layered_scene, tilt_planes
from d2csr.simulate.sensor import Exposure, expose, read_sensor

MIN_FRAME_PX = 16  # side of the smallest useful frame
_MARGIN_PX = 2  # of the photo's border, which frames must not see
_SHRINK = 0.99  # factor from one trial size to the next


@dataclass(frozen=True)
class Photograph:
    """Everything that determines one photograph of a scene, down to the seed of its noise."""

    shot: Shot
    exposure: Exposure
    isp: IspSettings
    seed: tuple[int, ...]

    def take(self, scene: Scene) -> UInt8[np.ndarray, "h w 3"]:
        """Return the image."""
        raw = expose(scene, self.shot, exposure=self.exposure)
        rng = np.random.default_rng(self.seed)
        read_sensor(raw, self.shot.sensor, exposure=self.exposure, rng=rng)
        return develop(raw, self.isp)


@dataclass(frozen=True)
class SimulatedPair:
    """A scene, its two photographs, and the camera with every shared value sampled."""

    camera: CameraConfig
    scene: Scene
    scale: int
    wide: Photograph
    tele: Photograph

    @property
    def registered(self) -> Photograph:
        """Return the tele photograph rendered on the wide one's grid times the scale.

        Sharpness and noise are the tele photograph's; geometry, brightness and color are the wide
        one's, as after perfect registration and color matching. Otherwise a network would learn
        the random difference between two exposures.
        """
        wide, tele = self.wide.shot, self.tele.shot
        view = wide.view.times(self.scale)
        finer = view.focal_px / tele.view.focal_px
        lens = replace(tele.lens, vignetting_stops=wide.lens.vignetting_stops / self.scale**2)
        shot = replace(
            tele,
            view=view,
            lens=lens,
            pitch_um=tele.pitch_um / finer,
            scene_px=tele.scene_px / finer,
        )
        frames = self.camera.exposure.hr_frames or self.tele.exposure.frames
        exposure = replace(self.tele.exposure, stops=self.wide.exposure.stops, frames=frames)
        isp = replace(self.wide.isp, config=self.camera.hr_isp or self.wide.isp.config)
        return Photograph(shot, exposure, isp, self.tele.seed)


@dataclass(frozen=True)
class _ZoomEnd:
    """One end of the zoom lens as sampled: focal length, distortion, and pose of the camera.

    Attributes:
        lens: ranges of the lens at this end.
        zoom: focal length divided by that of the wide photograph.
        distortion: sampled distortion.
        rotation_deg: sampled rotation about x, y and z.
        position_m: sampled position.
        axis_px: sampled displacement of the optical axis.
        shear: sampled displacement per row.
    """

    lens: LensConfig
    zoom: float
    distortion: BrownDistortion
    rotation_deg: tuple[float, float, float]
    position_m: tuple[float, float, float]
    axis_px: tuple[float, float]
    shear: tuple[float, float]

    def view(self, size: Size, *, focal_px: float, corner_px: float) -> View:
        """Return the pixel grid of a frame, given the focal length of the wide photograph."""
        return View(
            size,
            focal_px * self.zoom,
            corner_px,
            self.distortion,
            self.rotation_deg,
            self.position_m,
            self.axis_px,
            self.shear,
        )


def plan_pair(
    photo: UInt8[np.ndarray, "h w 3"],
    camera: CameraConfig,
    *,
    scale: int,
    fields: float,
    seed: Sequence[int],
) -> SimulatedPair:
    """Return a scene made from a photo and two photographs of it, the frames as large as possible.

    Args:
        photo: sharp sRGB image.
        camera: ranges to sample from.
        scale: tele focal length divided by wide focal length.
        fields: width of the wide frame in tele frames.
        seed: numbers that determine every random value.

    Raises:
        CameraError: the photo is too small for the scale.
    """
    scene_rng, *rngs = (np.random.default_rng((*seed, part)) for part in range(3))
    camera = _sample_shared(camera, np.random.default_rng((*seed, 5)))
    scene_px = float(scene_rng.uniform(*camera.scene.px_per_tele_px))
    focal_px = camera.optics.focal_mm * 1e3 / camera.sensor.pixel_pitch_um
    pixel_rad = 1 / (focal_px * scale * scene_px)
    scene = build_layered_scene(photo, camera.scene, pixel_rad=pixel_rad, rng=scene_rng)
    tilt, *motion_rngs = (np.random.default_rng((*seed, part)) for part in range(6, 9))
    scene = tilt_planes(scene, camera.scene.plane_tilt_deg, rng=tilt)
    still = _sample_ends(camera, scale=scale, scene_rng=scene_rng, rngs=rngs)
    ends = _with_motion(still, camera.pose, rngs=motion_rngs)
    wide_px, ratio = scale * scene_px, scale / fields  # pixels of the photo per wide pixel
    views = _fit_views(scene.planes[0], ends, focal_px=focal_px, tele_ratio=ratio, px=wide_px)
    wide, tele = (
        _sample_photograph(
            camera, end, view=view, scene_px=wide_px / end.zoom, rng=rng, seed=(*seed, 3 + index)
        )
        for index, (end, view, rng) in enumerate(zip(ends, views, rngs, strict=True))
    )
    isp = replace(tele.isp, config=camera.tele_isp or camera.isp)
    return SimulatedPair(camera, scene, scale, wide, replace(tele, isp=isp))


def _sample_shared(camera: CameraConfig, rng: np.random.Generator) -> CameraConfig:
    """Return the camera with the values that both photographs share: of filter and processing."""
    olpf_um = float(rng.uniform(*camera.sensor.olpf_um))
    sensor = camera.sensor.model_copy(update={"olpf_um": (olpf_um, olpf_um)})
    update: dict[str, Any] = {"sensor": sensor, "isp": _sample_isp(camera.isp, rng)}
    for name in ("hr_isp", "tele_isp"):
        isp = getattr(camera, name)
        if isp is not None:
            update[name] = _sample_isp(isp, rng)
    return camera.model_copy(update=update)


def _sample_isp(isp: IspConfig, rng: np.random.Generator) -> IspConfig:
    """Return the processing with every range replaced by one value from it."""
    sharpening, radius_px, levels = (
        float(rng.uniform(*each))
        for each in (isp.sharpening, isp.sharpening_radius_px, isp.noise_reduction)
    )
    quality = int(rng.integers(isp.jpeg_quality[0], isp.jpeg_quality[1] + 1))
    return isp.model_copy(
        update={
            "sharpening": (sharpening, sharpening),
            "sharpening_radius_px": (radius_px, radius_px),
            "noise_reduction": (levels, levels),
            "jpeg_quality": (quality, quality),
        }
    )


def _sample_ends(
    camera: CameraConfig,
    *,
    scale: int,
    scene_rng: np.random.Generator,
    rngs: Sequence[np.random.Generator],
) -> tuple[_ZoomEnd, _ZoomEnd]:
    """Return the wide and the tele end of the lens."""
    tele_zoom = scale * (1 + float(scene_rng.uniform(*camera.optics.zoom_error)))
    lenses = ((camera.optics.wide, 1.0), (camera.optics.tele, tele_zoom))
    wide, tele = (
        _sample_end(camera, lens, zoom=zoom, rng=rng)
        for (lens, zoom), rng in zip(lenses, rngs, strict=True)
    )
    return wide, tele


def _sample_end(
    camera: CameraConfig, lens: LensConfig, *, zoom: float, rng: np.random.Generator
) -> _ZoomEnd:
    tilt, pan = rng.uniform(*camera.pose.tilt_deg, 2)
    roll = rng.uniform(*camera.pose.roll_deg)
    x, y, z = rng.uniform(*camera.pose.translation_mm, 3) / 1e3
    ranges = (lens.k1, lens.k2, lens.k3, lens.p1, lens.p2)
    distortion = BrownDistortion(*(float(rng.uniform(*each)) for each in ranges))
    rotation_deg = (float(tilt), float(pan), float(roll))
    position_m = (float(x), float(y), float(z))
    return _ZoomEnd(lens, zoom, distortion, rotation_deg, position_m, (0.0, 0.0), (0.0, 0.0))


def _with_motion(
    ends: tuple[_ZoomEnd, _ZoomEnd], pose: PoseConfig, *, rngs: Sequence[np.random.Generator]
) -> tuple[_ZoomEnd, _ZoomEnd]:
    """Return the ends with the tele lens beside the wide one, stabilized axes and shear."""
    right_m, down_m = (offset / 1e3 for offset in pose.baseline_mm)
    moved = []
    for end, rng, share in zip(ends, rngs, (0.0, 1.0), strict=True):
        axis_x, axis_y = rng.uniform(*pose.stabilization_px, 2)
        shear_x, shear_y = rng.uniform(*pose.shear, 2)
        x, y, z = end.position_m
        moved.append(
            replace(
                end,
                position_m=(x + share * right_m, y + share * down_m, z),
                axis_px=(float(axis_x), float(axis_y)),
                shear=(float(shear_x), float(shear_y)),
            )
        )
    return moved[0], moved[1]


def _sample_photograph(
    camera: CameraConfig,
    end: _ZoomEnd,
    *,
    view: View,
    scene_px: float,
    rng: np.random.Generator,
    seed: tuple[int, ...],
) -> Photograph:
    """Return a photograph with lens, exposure and white balance sampled, in this order."""
    lens = _sample_lens(camera, end, view=view, rng=rng)
    shot = Shot(view, lens, camera.sensor, camera.sensor.pixel_pitch_um, scene_px)
    iso = float(rng.uniform(*camera.exposure.iso))
    stops = float(rng.uniform(*camera.exposure.error_ev))
    red, blue = 1 + rng.uniform(*camera.isp.white_balance_error, 2)
    return Photograph(
        shot,
        Exposure(iso, stops, camera.exposure.frames),
        IspSettings(camera.isp, (float(red), 1.0, float(blue))),
        seed,
    )


def _sample_lens(
    camera: CameraConfig, end: _ZoomEnd, *, view: View, rng: np.random.Generator
) -> Lens:
    return Lens(
        focal_mm=camera.optics.focal_mm * end.zoom,
        f_number=float(rng.uniform(*end.lens.f_number)),
        psf_sigma_um=float(rng.uniform(*end.lens.psf_sigma_um)),
        corner_psf_sigma_um=float(rng.uniform(*end.lens.corner_psf_sigma_um)),
        defocus_um=float(rng.uniform(*end.lens.defocus_um)),
        vignetting_stops=float(rng.uniform(*end.lens.vignetting_stops)),
        wavelengths_nm=camera.optics.wavelengths_nm,
        corner_px=view.corner_px,
    )


def _fit_views(
    backdrop: Plane,
    ends: tuple[_ZoomEnd, _ZoomEnd],
    *,
    focal_px: float,
    tele_ratio: float,
    px: float,
) -> tuple[View, View]:
    """Return the largest wide and tele views that see nothing beyond the backdrop.

    Args:
        backdrop: the photo.
        ends: of the lens, wide and tele.
        focal_px: focal length of the wide photograph.
        tele_ratio: width of the tele frame divided by that of the wide frame, in pixels of each.
        px: pixels of the photo per wide pixel.
    """
    width, height = (side / px for side in backdrop.size)
    share = 1.0
    while True:
        wide = Size(_even(width * share), _even(height * share))
        if min(wide) < MIN_FRAME_PX:
            problem = f"a photo of {backdrop.size} px leaves a wide frame below {MIN_FRAME_PX} px"
            raise CameraError("scene", problem, "Use a larger photo or a smaller scale.")
        tele = Size(*(_even(side * tele_ratio) for side in wide))
        corner_px = float(np.hypot(*tele)) / 2
        wide_view, tele_view = (
            end.view(size, focal_px=focal_px, corner_px=corner_px)
            for end, size in zip(ends, (wide, tele), strict=True)
        )
        if all(_sees_only(backdrop, view) for view in (wide_view, tele_view)):
            return wide_view, tele_view
        share *= _SHRINK


def _even(side: float) -> int:
    return max(2, int(side) // 2 * 2)


def _sees_only(backdrop: Plane, view: View) -> bool:
    """Return whether a view's border, and with it all of the view, lies on the backdrop."""
    seen = (
        view.on_plane(_border(view.size), backdrop.distance_m, slope=backdrop.slope)
        / backdrop.pitch_m
    )
    furthest = np.abs(seen).max(axis=0)
    return bool((furthest <= np.array(backdrop.size) / 2 - _MARGIN_PX).all())


def _border(size: Size) -> Float64[np.ndarray, "n 2"]:
    """Return points on the outer edges of the border pixels."""
    x = np.linspace(-0.5, size.width - 0.5, 33)
    y = np.linspace(-0.5, size.height - 0.5, 33)
    sides = [np.stack(np.broadcast_arrays(x, end), -1) for end in (y[0], y[-1])]
    sides += [np.stack(np.broadcast_arrays(end, y), -1) for end in (x[0], x[-1])]
    return np.concatenate(sides)
