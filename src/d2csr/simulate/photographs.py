"""The two photographs of a scene: every range of the camera drawn, the frames laid out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, UInt8

from d2csr.core.geometry import BrownDistortion, Size
from d2csr.simulate.camera_config import Camera, CameraError, LensPart
from d2csr.simulate.geometry import View
from d2csr.simulate.isp import IspSettings, develop
from d2csr.simulate.rendering import Lens, Shot
from d2csr.simulate.scene import Plane, Scene, layered_scene
from d2csr.simulate.sensor import Exposure, expose, read_out

LEAST_PX = 16  # side of the smallest frame worth taking
EDGE_PX = 2  # of the photo, left unseen


@dataclass(frozen=True)
class Photograph:
    """One photograph: geometry and lens, exposure, development, and the seed of its noise."""

    shot: Shot
    exposure: Exposure
    development: IspSettings
    seed: tuple[int, ...]

    def take(self, scene: Scene) -> UInt8[np.ndarray, "h w 3"]:
        """Return the image."""
        light = expose(scene, self.shot, exposure=self.exposure)
        rng = np.random.default_rng(self.seed)
        read_out(light, self.shot.sensor, exposure=self.exposure, rng=rng)
        return develop(light, self.development)


@dataclass(frozen=True)
class SimulatedPair:
    """A scene and its two photographs."""

    scene: Scene
    scale: int
    wide: Photograph
    tele: Photograph

    @property
    def registered(self) -> Photograph:
        """Return the tele photograph as it falls on the wide one's grid times the scale.

        Sharpness and noise are the tele photograph's; geometry, brightness and colour are the wide
        one's, as perfect registration and matching would make them. Else a network would learn
        how two exposures happened to differ.
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
        exposure = replace(self.tele.exposure, stops=self.wide.exposure.stops)
        return Photograph(shot, exposure, self.wide.development, self.tele.seed)


def plan_pair(
    photo: UInt8[np.ndarray, "h w 3"],
    camera: Camera,
    *,
    scale: int,
    fields: float,
    seed: Sequence[int],
) -> SimulatedPair:
    """Return a scene made of a photo and the two photographs of it, frames as large as fit.

    Args:
        photo: sharp sRGB image.
        camera: ranges to draw from.
        scale: tele focal length by wide focal length.
        fields: width of the wide frame in tele frames.
        seed: numbers that decide every draw.

    Raises:
        CameraError: the photo is too small for the scale.
    """
    of_scene, *of_shots = (np.random.default_rng((*seed, part)) for part in range(3))
    camera = _settled(camera, np.random.default_rng((*seed, 5)))
    scene_px = float(of_scene.uniform(*camera.scene.px_per_tele_px))
    focal_px = camera.optics.focal_mm * 1e3 / camera.sensor.pixel_um
    scene = layered_scene(
        photo, camera.scene, pixel_rad=1 / (focal_px * scale * scene_px), rng=of_scene
    )
    zoom = 1 + float(of_scene.uniform(*camera.optics.zoom_error))
    poses = [_pose(camera, rng) for rng in of_shots]
    ends = [(camera.optics.wide, 1.0), (camera.optics.tele, scale * zoom)]
    distortions = [_distortion(end, rng) for (end, _), rng in zip(ends, of_shots, strict=True)]

    def views(wide: Size) -> tuple[View, View]:
        tele = Size(*(_even(side * scale / fields) for side in wide))
        corner = float(np.hypot(*tele)) / 2
        wide_view, tele_view = (
            View(size, focal_px * longer, corner, distortion, turn, place)
            for size, (_, longer), distortion, (turn, place) in zip(
                (wide, tele), ends, distortions, poses, strict=True
            )
        )
        return wide_view, tele_view

    chosen = views(_fitting(scene.planes[0], views, scene_px=scale * scene_px))
    photographs = [
        Photograph(
            Shot(
                view,
                _lens(camera, end, view=view, longer=longer, rng=rng),
                camera.sensor,
                camera.sensor.pixel_um,
                scene_px * scale / longer,
            ),
            _exposure(camera, rng),
            IspSettings(camera.development, _gains(camera, rng)),
            (*seed, 3 + number),
        )
        for number, (view, (end, longer), rng) in enumerate(
            zip(chosen, ends, of_shots, strict=True)
        )
    ]
    return SimulatedPair(scene, scale, *photographs)


def _settled(camera: Camera, rng: np.random.Generator) -> Camera:
    """Return the camera with what is drawn once for both photographs: filter and sharpening."""
    olpf_um = float(rng.uniform(*camera.sensor.olpf_um))
    sharpening = float(rng.uniform(*camera.development.sharpening))
    sensor = camera.sensor.model_copy(update={"olpf_um": (olpf_um, olpf_um)})
    development = camera.development.model_copy(update={"sharpening": (sharpening, sharpening)})
    return camera.model_copy(update={"sensor": sensor, "development": development})


def _fitting(
    backdrop: Plane, views: Callable[[Size], tuple[View, View]], *, scene_px: float
) -> Size:
    """Return the largest wide frame that, with its tele frame, sees nothing beyond the photo."""
    width, height = (side / scene_px for side in backdrop.size)
    share = 1.0
    while True:
        size = Size(_even(width * share), _even(height * share))
        if min(size) < LEAST_PX:
            problem = f"a photo of {backdrop.size} px leaves a wide frame below {LEAST_PX} px"
            raise CameraError("scene", problem, remedy="Take a larger photo or a smaller scale.")
        if all(_sees_only(backdrop, view) for view in views(size)):
            return size
        share *= 0.99


def _even(side: float) -> int:
    return max(2, int(side) // 2 * 2)


def _sees_only(backdrop: Plane, view: View) -> bool:
    """Return whether a view's border, and so all of it, lies on the backdrop."""
    seen = view.on_plane(_border(view.size), backdrop.distance_m) / backdrop.pitch_m
    furthest = np.abs(seen).max(axis=0)
    return bool((furthest <= np.array(backdrop.size) / 2 - EDGE_PX).all())


def _border(size: Size) -> Float64[np.ndarray, "n 2"]:
    """Return the outer edge of the border pixels, each half a pixel out."""
    x = np.linspace(-0.5, size.width - 0.5, 33)
    y = np.linspace(-0.5, size.height - 0.5, 33)
    sides = [np.stack(np.broadcast_arrays(x, end), -1) for end in (y[0], y[-1])]
    sides += [np.stack(np.broadcast_arrays(end, y), -1) for end in (x[0], x[-1])]
    return np.concatenate(sides)


def _pose(
    camera: Camera, rng: np.random.Generator
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    tilt, pan = rng.uniform(*camera.pose.tilt_deg, 2)
    roll = rng.uniform(*camera.pose.roll_deg)
    x, y, z = rng.uniform(*camera.pose.shift_mm, 3) / 1e3
    return (float(tilt), float(pan), float(roll)), (float(x), float(y), float(z))


def _distortion(end: LensPart, rng: np.random.Generator) -> BrownDistortion:
    ranges = (end.k1, end.k2, end.k3, end.p1, end.p2)
    return BrownDistortion(*(float(rng.uniform(*each)) for each in ranges))


def _lens(
    camera: Camera, end: LensPart, *, view: View, longer: float, rng: np.random.Generator
) -> Lens:
    return Lens(
        focal_mm=camera.optics.focal_mm * longer,
        f_number=float(rng.uniform(*end.f_number)),
        blur_um=float(rng.uniform(*end.blur_um)),
        corner_blur_um=float(rng.uniform(*end.corner_blur_um)),
        defocus_um=float(rng.uniform(*end.defocus_um)),
        vignetting_stops=float(rng.uniform(*end.vignetting_stops)),
        wavelengths_nm=camera.optics.wavelengths_nm,
        corner_px=view.corner_px,
    )


def _exposure(camera: Camera, rng: np.random.Generator) -> Exposure:
    settings = camera.exposure
    iso, stops = (float(rng.uniform(*each)) for each in (settings.iso, settings.error_ev))
    return Exposure(iso, stops, settings.frames)


def _gains(camera: Camera, rng: np.random.Generator) -> tuple[float, float, float]:
    red, blue = 1 + rng.uniform(*camera.development.white_balance_error, 2)
    return float(red), 1.0, float(blue)
