"""Geometry: views against OpenCV's camera, and rendered dots against the ground truth."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from d2csr.core.geometry import NO_DISTORTION, BrownDistortion, Size
from d2csr.images.pixels import linear_to_srgb
from d2csr.simulate.camera_config import (
    CameraConfig,
    CameraError,
    LensConfig,
    OpticsConfig,
    PoseConfig,
    SceneConfig,
)
from d2csr.simulate.geometry import View, plane_homography
from d2csr.simulate.ground_truth import (
    GroundTruth,
    build_truth,
    parallax_mask,
    read_truth,
    visibility_mask,
    visible_planes,
    write_truth,
)
from d2csr.simulate.photographs import plan_pair
from d2csr.simulate.rendering import render_tiles
from d2csr.simulate.scene import Plane, Scene

VIEW = View(
    Size(300, 200), 700.0, 180.0, BrownDistortion(-0.06, 0.02, 0.01, 1e-3, -8e-4),
    (3.0, -2.0, 5.0), (0.1, -0.05, 0.2), (4.0, -3.0),
)  # fmt: skip
POINTS = np.random.default_rng(0).uniform((0, 0), (299, 199), (50, 2))


def test_projection_is_opencv_s():
    plane_m = VIEW.on_plane(POINTS, 4.0)
    world = np.concatenate([plane_m, np.full((50, 1), 4.0)], axis=1)
    step, lens = 700 / 180, VIEW.distortion
    coefficients = [lens.k1 * step**2, lens.k2 * step**4, lens.p1 * step, lens.p2 * step]
    coefficients.append(lens.k3 * step**6)
    turn = VIEW.rotation
    found, _ = cv2.projectPoints(
        world, turn, -turn @ np.array(VIEW.position_m), VIEW.intrinsics, np.array(coefficients)
    )
    assert found[:, 0] == pytest.approx(POINTS, abs=1e-6)
    assert VIEW.pixels(plane_m, 4.0) == pytest.approx(POINTS, abs=1e-8)


def test_the_homography_is_the_mapping_without_distortion():
    flat = replace(VIEW, distortion=NO_DISTORTION)
    other = View(Size(400, 260), 2000.0, 240.0, NO_DISTORTION, (-1.0, 2.0, 0.5), (0.0, 0.02, -0.1))
    matrix = plane_homography(flat, other, distance_m=3.0)
    mapped = np.concatenate([POINTS, np.ones((50, 1))], axis=1) @ matrix.T
    expected = other.pixels(flat.on_plane(POINTS, 3.0), 3.0)
    assert mapped[:, :2] / mapped[:, 2:] == pytest.approx(expected, abs=1e-7)


def test_a_slanted_plane_is_the_set_of_points_that_its_equation_holds_for():
    """Compared with OpenCV's projection of points of z = 4 + 0.3 x - 0.2 y, and back again."""
    slope = (0.3, -0.2)
    flat = replace(VIEW, distortion=NO_DISTORTION)
    plane_m = np.random.default_rng(1).uniform(-0.5, 0.5, (50, 2))
    world = np.concatenate([plane_m, 4 + plane_m @ np.array([slope]).T], axis=1)
    turn = flat.rotation
    found, _ = cv2.projectPoints(
        world, turn, -turn @ np.array(flat.position_m), flat.intrinsics, np.zeros(4)
    )
    assert flat.pixels(plane_m, 4.0, slope=slope) == pytest.approx(found[:, 0], abs=1e-6)
    assert flat.on_plane(found[:, 0], 4.0, slope=slope) == pytest.approx(plane_m, abs=1e-8)
    other = replace(flat, rotation_deg=(0.0, 1.0, 0.0), position_m=(0.03, 0.0, 0.0))
    matrix = plane_homography(flat, other, distance_m=4.0, slope=slope)
    mapped = np.concatenate([found[:, 0], np.ones((50, 1))], axis=1) @ matrix.T
    expected = other.pixels(plane_m, 4.0, slope=slope)
    assert mapped[:, :2] / mapped[:, 2:] == pytest.approx(expected, abs=1e-6)


def test_a_rolling_shutter_displaces_each_row_in_proportion_to_its_distance_from_the_axis():
    sheared = replace(VIEW, shear=(0.02, -0.01))
    plane_m = VIEW.on_plane(POINTS, 4.0)
    moved = sheared.pixels(plane_m, 4.0)
    rows = moved[:, 1:] - VIEW.centre[1]
    assert moved - POINTS == pytest.approx(rows * [[0.02, -0.01]], abs=1e-8)
    assert sheared.on_plane(moved, 4.0) == pytest.approx(plane_m, abs=1e-8)


def test_a_finer_grid_sees_the_same_through_the_middle_of_its_blocks():
    finer = VIEW.times(3)
    assert finer.on_plane((POINTS + 0.5) * 3 - 0.5, 2.0) == pytest.approx(
        VIEW.on_plane(POINTS, 2.0), abs=1e-9
    )


def dots():
    """Return round dots of light on black, and where they are."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(90, 620, 90), np.arange(90, 420, 90)), -1).reshape(-1, 2)
    places = grid + rng.uniform(-0.5, 0.5, grid.shape)
    y, x = np.mgrid[:500, :700].astype(np.float32)
    light = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 5.0**2)) for u, v in places)
    photo = np.rint(255 * linear_to_srgb(light.astype(np.float32))).astype(np.uint8)
    return np.repeat(photo[..., None], 3, axis=2), places


def centroid(light, near, radius):
    """Return the centre of a dot under a Gaussian window that follows it."""
    left, top = (int(place - 5 * radius) for place in near)
    side = int(10 * radius) + 2
    light = light[top : top + side, left : left + side]
    y, x = np.mgrid[top : top + light.shape[0], left : left + light.shape[1]].astype(np.float64)
    for _ in range(10):
        window = light * np.exp(-((x - near[0]) ** 2 + (y - near[1]) ** 2) / (2 * radius**2))
        near = np.array([(window * x).sum(), (window * y).sum()]) / window.sum() * 2 - near
    return near


TWO_LENSES = CameraConfig(
    pose=PoseConfig(
        tilt_deg=(-0.2, 0.2), baseline_mm=(12, 4), stabilization_px=(-4, 4), shear=(-0.01, 0.01)
    ),
    optics=OpticsConfig(
        wide=LensConfig(k1=-0.05, vignetting_stops=0, defocus_um=0),
        tele=LensConfig(k1=0.015, p2=1e-3, vignetting_stops=0, defocus_um=0),
    ),
    scene=SceneConfig(px_per_tele_px=1.2, plane_tilt_deg=(-6, 6), distance_m=2.0),
)
TILTED = CameraConfig(
    pose=PoseConfig(tilt_deg=(-0.2, 0.2), roll_deg=(-3, 3)),
    optics=OpticsConfig(
        wide=LensConfig(k1=-0.08, p1=1e-3, vignetting_stops=0, defocus_um=0),
        tele=LensConfig(k1=0.03, p2=1e-3, vignetting_stops=0, defocus_um=8),
    ),
    scene=SceneConfig(px_per_tele_px=1.2),
)


@pytest.mark.parametrize("camera", [TILTED, TWO_LENSES])
def test_dots_appear_at_the_positions_of_the_ground_truth(camera):
    """To 0.01 px of each grid: wide, tele, and the tele image on the wide grid times 3."""
    photo, places = dots()
    both = plan_pair(photo, camera, scale=3, fields=1.2, seed=(5,))
    plane = both.scene.planes[0]
    points_m = (places - (np.array(plane.size) - 1) / 2) * plane.pitch_m
    for shot, sigma in ((both.wide.shot, 2.0), (both.tele.shot, 4.5), (both.registered.shot, 4.5)):
        size = shot.view.size
        light = np.zeros((size.height, size.width))
        for tile, rgb in render_tiles(both.scene, shot):
            light[tile.rows, tile.columns] = rgb[..., 1]
        truth = shot.view.pixels(points_m, plane.distance_m, slope=plane.slope)
        margin = 5 * sigma
        inside = (truth > margin).all(1) & (truth < np.array(size) - margin).all(1)
        assert inside.sum() >= 6
        found = np.array([centroid(light, place, sigma) for place in truth[inside]])
        assert np.abs(found - truth[inside]).max() < 0.01


@pytest.mark.parametrize("camera", [TILTED, TWO_LENSES])
def test_the_truth_leads_from_the_registered_grid_to_the_tele_frame(tmp_path, camera):
    photo, places = dots()
    both = plan_pair(photo, camera, scale=3, fields=1.2, seed=(5,))
    truth = build_truth(both, "001", suffix=".jpg")
    plane = both.scene.planes[0]
    points_m = (places - (np.array(plane.size) - 1) / 2) * plane.pitch_m
    surface = {"distance_m": plane.distance_m, "slope": plane.slope}
    on_wide = both.wide.shot.view.pixels(points_m, **surface)
    on_tele = both.tele.shot.view.pixels(points_m, **surface)
    assert truth.tele_position((on_wide + 0.5) * 3 - 0.5) == pytest.approx(on_tele, abs=1e-6)
    write_truth((truth,), tmp_path / "truth.json")
    (again,) = read_truth(tmp_path)
    assert isinstance(again, GroundTruth)
    assert again == replace(truth, shots=again.shots)


def test_a_pixel_is_visible_if_the_tele_camera_sees_the_same_plane_there():
    """A disc at half the distance hides from each lens another crescent of the backdrop."""
    photo = np.full((400, 600, 3), 200, np.uint8)
    pose = PoseConfig(tilt_deg=0, roll_deg=0, translation_mm=0, baseline_mm=(10, 0))
    camera = CameraConfig(
        pose=pose, optics=OpticsConfig(wide=LensConfig(), tele=LensConfig(), zoom_error=0)
    )
    both = plan_pair(photo, camera, scale=2, fields=1.0, seed=(1,))
    backdrop = both.scene.planes[0]
    y, x = np.mgrid[:400, :600]
    cover = np.where(np.hypot(x - 300, y - 200) < 60, np.uint8(255), np.uint8(0))
    near = Plane(np.zeros_like(photo), cover, 0.5 * backdrop.distance_m, 0.5 * backdrop.pitch_m)
    both = replace(both, scene=Scene((backdrop, near)))
    seen = visible_planes(both)
    visible = visibility_mask(both, seen) > 0
    disc = np.argwhere(seen == 1)
    assert visible[seen == 1].all()
    # the disc moves to the left of the backdrop by focal length x baseline x (1 / z - 1 / Z)
    shift = both.wide.shot.view.focal_px * 0.01 * (2 - 1) / backdrop.distance_m
    row = int(np.median(disc[:, 0]))
    left = disc[disc[:, 0] == row][:, 1].min()
    hidden = np.flatnonzero(~visible[row] & (seen[row] == 0) & (np.arange(len(seen[row])) > 20))
    hidden = hidden[hidden < left + 60]
    assert hidden.max() == left - 1
    assert len(hidden) == pytest.approx(shift, abs=1)
    truth = build_truth(both, "001", suffix=".jpg")
    grid = np.array([[disc.mean(0)[1], row], [20.0, 10.0]])
    at = (grid + 0.5) * 2 - 0.5
    field = truth.tele_field(at, np.array([1, 0], np.uint8))
    assert field[0] == pytest.approx(truth.tele_position(at[:1], plane=1)[0])
    assert field[1] == pytest.approx(truth.tele_position(at[1:])[0])


def test_a_nearer_plane_hides_the_backdrop_and_moves_more():
    """A disc half as far away, seen from two places: it lies over other parts of the backdrop."""
    photo = np.full((400, 600, 3), 200, np.uint8)
    camera = CameraConfig(pose=PoseConfig(tilt_deg=0, roll_deg=0, translation_mm=(-30, 30)))
    both = plan_pair(photo, camera, scale=2, fields=1.0, seed=(1,))
    backdrop = both.scene.planes[0]
    y, x = np.mgrid[:400, :600]
    cover = np.where(np.hypot(x - 300, y - 200) < 60, np.uint8(255), np.uint8(0))
    near = Plane(np.zeros_like(photo), cover, 0.5 * backdrop.distance_m, 0.5 * backdrop.pitch_m)
    both = replace(both, scene=Scene((backdrop, near)))
    seen = visible_planes(both)
    free = parallax_mask(both, seen)
    assert set(np.unique(seen)) == {0, 1}
    assert not free[seen == 1].any()
    hidden = (free == 0) & (seen == 0)
    assert 0.1 * (seen == 1).sum() < hidden.sum()
    image = both.wide.take(both.scene)
    inner = cv2.erode((seen == 1).astype(np.uint8), np.ones((9, 9))) > 0
    outer = cv2.dilate((seen == 1).astype(np.uint8), np.ones((9, 9))) == 0
    assert image[inner].max() < 25
    assert image[outer].min() > 120


def test_a_photo_that_is_too_small_is_an_error():
    with pytest.raises(CameraError, match="below 16 px"):
        plan_pair(np.zeros((60, 60, 3), np.uint8), CameraConfig(), scale=4, fields=1.0, seed=(0,))
