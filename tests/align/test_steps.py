"""Whole pairs against the simulator's truth, and pairs that must not be made."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from d2csr.align.photo import Photo, read_pair
from d2csr.align.registration.lens import DEFAULT_LENSES, LensSpec
from d2csr.align.registration.quality import check_quality
from d2csr.align.steps import (
    Registration,
    Settings,
    align,
    check_focal_ratio,
    make_pair,
    register,
)
from d2csr.core.errors import ImageError, PairRejectedError
from d2csr.core.geometry import NO_DISTORTION, BrownDistortion, Size
from d2csr.images.reader import read_rgb8
from d2csr.simulate.camera_config import CameraConfig, LensConfig, OpticsConfig, SceneConfig
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.geometry import View
from d2csr.simulate.ground_truth import GroundTruth, read_truth
from d2csr.simulate.scene import Procedural

SETTINGS = Settings(scale=3)


def error_px(registered: Registration, truth: GroundTruth) -> np.ndarray:
    """Distance from the true position on the tele frame, in HR pixels, over the pair."""
    region = registered.region.times(truth.scale)
    x = np.linspace(region.left, region.right - 1, 24)
    y = np.linspace(region.top, region.bottom - 1, 18)
    grid = np.stack(np.meshgrid(x, y), -1)
    apart = registered.mapping(grid) - truth.tele_position(grid)
    return np.hypot(*np.moveaxis(apart, -1, 0)) / registered.mapping.tele_px_per_px


@pytest.fixture(scope="session")
def photo_pairs(captures: Path, truths: tuple[GroundTruth, ...]) -> list[tuple[Photo, Photo]]:
    return [read_pair(captures / each.wide_file, captures / each.tele_file) for each in truths]


@pytest.fixture(scope="session")
def registered(photo_pairs: list[tuple[Photo, Photo]]) -> list[Registration]:
    return [register(*photo_pair, settings=SETTINGS) for photo_pair in photo_pairs]


def test_grid_is_recovered(registered, truths):
    for found, truth in zip(registered, truths, strict=True):
        error = error_px(found, truth)
        assert np.sqrt((error**2).mean()) < 0.15
        assert np.percentile(error, 95) < 0.25


def test_good_pairs_of_a_zoom_lens_are_accepted_and_stay_global(registered):
    for found in registered:
        check_quality(found.scores, scale=3)
        assert not found.scores.is_dense
        assert found.mapping.field is None
        assert found.scores.trust.trusted_share > 0.9


def test_centre_and_edge_crop_the_given_amount(photo_pairs, registered):
    whole = registered[0].region
    near = register(*photo_pairs[0], settings=replace(SETTINGS, centre=0.8)).region
    assert abs(near.width - 0.8 * whole.width) < 3
    assert abs(near.height - 0.8 * whole.height) < 3
    cut = register(*photo_pairs[0], settings=replace(SETTINGS, edge_px=12)).region
    assert (cut.width, cut.height) == (whole.width - 20, whole.height - 20)


def test_warp_none_is_the_matrix_alone_and_radial_has_no_mesh(photo_pairs, registered):
    none, radial = (
        register(*photo_pairs[0], settings=replace(SETTINGS, warp=warp)).mapping
        for warp in ("none", "radial")
    )
    assert (none.mesh, none.wide_lens, none.tele_lens) == (None, NO_DISTORTION, NO_DISTORTION)
    assert radial.mesh is None
    assert not radial.wide_lens.is_identity


def brown_distortion(view: View) -> BrownDistortion:
    """Return a view's distortion on radii of half its diagonal."""
    share = np.hypot(*view.size) / 2 / view.corner_px
    distortion = view.distortion
    return BrownDistortion(
        distortion.k1 * share**2,
        distortion.k2 * share**4,
        distortion.k3 * share**6,
        distortion.p1 * share,
        distortion.p2 * share,
    )


def test_given_lenses_remove_the_distortion(tmp_path):
    optics = OpticsConfig(wide=LensConfig(k1=(-0.08, -0.08)), tele=LensConfig(k1=(0.03, 0.03)))
    job = SimulationOptions(scale=3, camera=CameraConfig(optics=optics), captures=True, seed=5)
    simulate([Procedural(Size(1800, 1200), (3, 2))], tmp_path, options=job)
    (truth,) = read_truth(tmp_path)
    photo_pair = read_pair(tmp_path / truth.wide_file, tmp_path / truth.tele_file)
    given = LensSpec("given", brown_distortion(truth.wide), brown_distortion(truth.tele))
    errors = [
        error_px(register(*photo_pair, settings=replace(SETTINGS, warp="none", lens=lens)), truth)
        for lens in (DEFAULT_LENSES, given)
    ]
    ignored, undone = (np.sqrt((error**2).mean()) for error in errors)
    assert ignored > 0.4
    assert undone < 0.1


def test_unmeasurable_score_rejects_the_pair(registered):
    geometry = replace(registered[0].scores.geometry, grid_error_px=float("inf"))
    scores = replace(registered[0].scores, geometry=geometry)
    with pytest.raises(PairRejectedError, match="too little is left to measure grid_error_px"):
        check_quality(scores, scale=3)
    assert scores.as_json()["grid_error_px"] is None  # JSON has no infinity; a browser stops at it


def test_lr_pixels_are_the_photographs_own(photo_pairs, registered):
    pair = make_pair(*photo_pairs[0], registration=registered[0], settings=SETTINGS)
    np.testing.assert_array_equal(pair.lr, photo_pairs[0][0].pixels[registered[0].region.slices])
    assert pair.hr.shape[:2] == (3 * pair.lr.shape[0], 3 * pair.lr.shape[1])


def test_colors_are_matched(photo_pairs, registered):
    pair = make_pair(*photo_pairs[0], registration=registered[0], settings=SETTINGS)
    kept = make_pair(
        *photo_pairs[0], registration=registered[0], settings=replace(SETTINGS, match_color=False)
    )
    matched, own = (
        np.abs(cv2.GaussianBlur(reduced - 1.0 * pair.lr, (0, 0), 3.0))
        for hr in (pair.hr, kept.hr)
        for reduced in [cv2.resize(hr, pair.lr.shape[1::-1], interpolation=cv2.INTER_AREA)]
    )
    assert np.median(matched) < 2.0
    assert np.median(matched) < 0.6 * np.median(own)


def test_the_same_photographs_give_the_same_pair(photo_pairs, registered):
    again = register(*photo_pairs[0], settings=SETTINGS)
    np.testing.assert_array_equal(again.mapping.matrix, registered[0].mapping.matrix)


def test_focal_ratio_below_the_scale_is_refused(photo_pairs):
    with pytest.raises(
        PairRejectedError, match=r"focal ratio is .* largest possible scale is 3"
    ) as error:
        register(*photo_pairs[0], settings=Settings(scale=4))
    assert error.value.cause == "ratio"


def test_a_focal_ratio_just_below_the_limit_does_not_look_like_it():
    check_focal_ratio(3.2, scale=4)
    with pytest.raises(PairRejectedError, match=r"ratio is 3\.1999, below 0\.8 times the scale 4"):
        check_focal_ratio(3.1999, scale=4)


def changed(photo: Photo, pixels: np.ndarray) -> Photo:
    return replace(photo, pixels=np.ascontiguousarray(pixels))


def wrong_pairs(photo_pairs: list[tuple[Photo, Photo]]) -> dict[str, tuple[Photo, Photo]]:
    (wide, tele), (other, _) = photo_pairs
    blank = np.random.default_rng(0).normal(128, 3, wide.pixels.shape)
    wall = np.clip(cv2.GaussianBlur(blank, (0, 0), 0.8), 0, 255).astype(np.uint8)
    large = cv2.resize(wall, tele.pixels.shape[1::-1])
    return {
        "two scenes": (other, tele),
        "mirrored": (wide, changed(tele, tele.pixels[:, ::-1])),
        "upside down mirrored": (wide, changed(tele, tele.pixels[::-1])),
        "blank wall": (changed(wide, wall), changed(tele, large)),
        "blank tele": (wide, changed(tele, large)),
    }


@pytest.mark.parametrize(
    "kind", ["two scenes", "mirrored", "upside down mirrored", "blank wall", "blank tele"]
)
def test_wrong_pairs_are_rejected(photo_pairs, kind):
    with pytest.raises(PairRejectedError):
        align(*wrong_pairs(photo_pairs)[kind], settings=SETTINGS)


def test_tele_image_without_detail_is_rejected(photo_pairs):
    wide, tele = photo_pairs[0]
    soft = cv2.GaussianBlur(tele.pixels, (0, 0), 3.0)
    with pytest.raises(PairRejectedError, match="hardly sharper") as error:
        align(wide, changed(tele, soft), settings=SETTINGS)
    assert error.value.cause == "blur_minor"


@pytest.mark.parametrize("turn", ["across", "down"])
def test_tele_image_smeared_over_many_pixels_is_rejected(photo_pairs, turn):
    wide, tele = photo_pairs[0]
    smear = np.full((1, 25) if turn == "across" else (25, 1), 1 / 25)
    with pytest.raises(PairRejectedError, match=r"holds .*% of the wide one's detail"):
        align(wide, changed(tele, cv2.filter2D(tele.pixels, -1, smear)), settings=SETTINGS)


def test_area_that_differs_is_masked(photo_pairs):
    wide, tele = photo_pairs[0]
    pixels = tele.pixels.copy()
    height, width = pixels.shape[:2]
    part = np.s_[height // 3 : height // 2, width // 3 : width // 2]
    pixels[part] = pixels[part][::-1, ::-1]
    found = register(wide, changed(tele, pixels), settings=SETTINGS)
    x, y = np.meshgrid(
        np.arange(found.region.left, found.region.right),
        np.arange(found.region.top, found.region.bottom),
    )
    positions = found.mapping((np.stack([x, y], -1) + 0.5) * 3 - 0.5)
    inside = (
        (positions[..., 0] > width // 3 + 9) & (positions[..., 0] < width // 2 - 9)
        & (positions[..., 1] > height // 3 + 9) & (positions[..., 1] < height // 2 - 9)
    )  # fmt: skip
    assert (found.mask[inside] == 0).mean() > 0.7
    assert (found.mask[~inside] == 0).mean() < 0.25


def test_nearer_planes_are_masked_and_little_else(tmp_path, registered):
    camera = CameraConfig(scene=SceneConfig(layers=2))
    job = SimulationOptions(scale=3, camera=camera, captures=True, seed=301)
    simulate([Procedural(Size(1800, 1200), (3, 1))], tmp_path, options=job)
    (truth,) = read_truth(tmp_path)
    photo_pair = read_pair(tmp_path / truth.wide_file, tmp_path / truth.tele_file)
    found = register(*photo_pair, settings=SETTINGS)
    region = found.region
    x, y = np.meshgrid(
        np.arange(region.left, region.right, 4), np.arange(region.top, region.bottom, 4)
    )
    positions = (np.stack([x, y], -1) + 0.5) * 3 - 0.5
    seen = read_rgb8(tmp_path / truth.planes_file)[y, x, 0]
    planes = [truth.tele_position(positions, plane=plane) for plane in range(3)]
    true = np.choose(seen[..., None], planes)
    error = np.hypot(*np.moveaxis(found.mapping(positions) - true, -1, 0))
    error = error / found.mapping.tele_px_per_px
    kept = found.mask[::4, ::4] > 0
    assert np.sqrt((error**2).mean()) > 0.5
    assert np.sqrt((error[kept] ** 2).mean()) < 0.2
    for flat in registered:
        assert (flat.mask == 0).mean() < 0.08


@pytest.mark.parametrize("kind", ["gray", "16 bit"])
def test_gray_and_16_bit_photographs_are_registered_equally(photo_pairs, truths, kind):
    def other(photo: Photo) -> Photo:
        if kind == "gray":
            gray = photo.pixels.mean(axis=2, keepdims=True)
            return changed(photo, np.repeat(np.rint(gray).astype(np.uint8), 3, axis=2))
        return changed(photo, photo.pixels.astype(np.uint16) * 257)

    wide, tele = photo_pairs[1]
    found = register(other(wide), other(tele), settings=SETTINGS)
    assert np.sqrt((error_px(found, truths[1]) ** 2).mean()) < 0.2


def test_tiny_and_damaged_files_are_refused(tmp_path, captures, truths):
    tiny = tmp_path / "tiny.png"
    cv2.imwrite(str(tiny), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(ImageError, match="30x20 px"):
        read_pair(tiny, tiny)
    torn = tmp_path / "torn.jpg"
    torn.write_bytes((captures / truths[0].wide_file).read_bytes()[:5000])
    with pytest.raises(ImageError, match=r"torn\.jpg.*damaged"):
        read_pair(torn, torn)
    for name in ("torn.dng", "none.nef"):
        (tmp_path / "torn.dng").write_bytes(b"II*\0nothing")
        with pytest.raises(ImageError):
            read_pair(tmp_path / name, tmp_path / name)


def test_turned_camera_is_registered_too(photo_pairs):
    wide, tele = photo_pairs[0]
    turned = changed(tele, np.rot90(tele.pixels, 2))
    found = register(wide, turned, settings=SETTINGS)
    upright = register(wide, tele, settings=SETTINGS)
    grid = np.stack(np.meshgrid(np.linspace(300, 700, 6), np.linspace(200, 500, 5)), -1)
    back = np.array(tele.size) - 1.0 - found.mapping(grid)
    assert np.hypot(*np.moveaxis(back - upright.mapping(grid), -1, 0)).max() < 0.3
