"""Dense registration and trust, against the ground truth of two simulated lenses."""

from dataclasses import replace

import numpy as np
import pytest

from d2csr.align.assessment import Registration
from d2csr.align.photo import Photo, read_pair
from d2csr.align.registration.field import MIN_JACOBIAN, jacobian_determinant
from d2csr.align.registration.quality import check_quality
from d2csr.align.registration.transform import registered_of_wide
from d2csr.align.registration.trust import has_texture
from d2csr.align.registration.warp import gaussian_blur, to_gray01
from d2csr.align.steps import Settings, make_pair, register
from d2csr.core.errors import PairRejectedError
from d2csr.core.geometry import Size
from d2csr.images.reader import read_rgb8
from d2csr.simulate.camera_config import CameraConfig, IspConfig, PoseConfig, SceneConfig
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.ground_truth import read_truth
from d2csr.simulate.scene import Procedural

PHONE = CameraConfig(
    pose=PoseConfig(
        tilt_deg=(-0.2, 0.2), translation_mm=0, baseline_mm=(6, 1), stabilization_px=(-5, 5),
        shear=(-0.002, 0.002),
    ),
    scene=SceneConfig(
        distance_m=2.5, layers=1, layer_distance=(0.7, 0.7), layer_area=(0.4, 0.4),
        plane_tilt_deg=(-10, 10), px_per_tele_px=(1, 1), wide_fields=1.3,
    ),
    tele_isp=IspConfig(contrast=1.1),
)  # fmt: skip
SETTINGS = Settings(scale=2)


class Captured:
    """A pair of two lenses, and the truth on the region of its registration."""

    def __init__(self, folder) -> None:
        job = SimulationOptions(scale=2, camera=PHONE, captures=True, seed=4)
        simulate([Procedural(Size(1000, 700), (21, 1))], folder, options=job)
        (truth,) = read_truth(folder)
        self.truth, self.folder = truth, folder
        self.photos = read_pair(folder / truth.wide_file, folder / truth.tele_file)

    def mask(self, name: str, registration: Registration) -> np.ndarray:
        return read_rgb8(self.folder / name)[registration.region.slices][..., 0]

    def error_px(self, registration: Registration) -> np.ndarray:
        region, mapping = registration.region, registration.mapping
        x, y = (
            registered_of_wide(np.arange(first, last, dtype=float), 2)
            for first, last in ((region.left, region.right), (region.top, region.bottom))
        )
        seen = self.mask(self.truth.planes_file, registration)
        true = self.truth.tele_field(np.stack(np.meshgrid(x, y), -1), seen)
        apart = np.moveaxis(mapping.on_grid(x, y) - true, -1, 0)
        return np.hypot(*apart) / mapping.tele_px_per_px


@pytest.fixture(scope="module")
def captured(tmp_path_factory) -> Captured:
    return Captured(tmp_path_factory.mktemp("phone") / "x2")


@pytest.fixture(scope="module")
def registered(captured) -> Registration:
    return register(*captured.photos, settings=SETTINGS)


def test_a_pair_that_no_global_mapping_fits_is_accepted_with_a_field(captured, registered):
    start = register(*captured.photos, settings=replace(SETTINGS, warp="global"))
    with pytest.raises(PairRejectedError):
        check_quality(start.scores, scale=2)
    assert start.mapping.field is None
    check_quality(registered.scores, scale=2)
    assert registered.scores.is_dense


def test_trusted_pixels_are_where_the_truth_has_them(captured, registered):
    trusted = registered.mask > 0
    error = captured.error_px(registered)[trusted]
    assert np.median(error) < 0.10
    assert np.percentile(error, 95) < 0.30
    assert (error > 1).mean() < 0.01


def test_most_of_the_visible_texture_is_trusted_and_little_that_is_hidden(captured, registered):
    gray = to_gray01(captured.photos[0].pixels)[registered.region.slices]
    visible = captured.mask(captured.truth.visible_file, registered) > 0
    trusted = registered.mask > 0
    share = trusted[has_texture(gaussian_blur(gray, 1.0)) & visible].mean()
    assert share > 0.6
    assert (~visible).sum() > 200
    assert trusted[~visible].mean() < 0.3
    assert registered.scores.trust.trusted_share == pytest.approx(share, abs=0.1)


def test_the_field_has_no_folds(registered):
    field = registered.mapping.field
    assert field.largest_px > 3  # planes at other depths than the global mapping's
    assert jacobian_determinant(field.values).min() > MIN_JACOBIAN - 1e-3


def test_hr_is_interpolated_through_the_field(captured, registered):
    """Downsampled, it differs from LR by little where it is trusted, and by more without it."""
    differences = []
    for mapping in (registered.mapping, replace(registered.mapping, field=None)):
        pair = make_pair(
            *captured.photos, registration=replace(registered, mapping=mapping), settings=SETTINGS
        )
        height, width = pair.lr.shape[:2]
        reduced = pair.hr.reshape(height, 2, width, 2, 3).mean((1, 3))
        differences.append(np.abs(reduced - pair.lr)[registered.mask > 0].mean())
    assert differences[0] < 0.6 * differences[1]


def test_wrong_scene_is_not_trusted(captured):
    """Forced to be dense: optical flow always finds something, trust must not."""
    wide, tele = captured.photos
    turned = np.ascontiguousarray(tele.pixels[::-1, ::-1])
    half = turned.copy()
    half[:, : half.shape[1] // 2] = tele.pixels[:, : half.shape[1] // 2]
    found = register(
        wide, Photo(tele.path, half, tele.camera), settings=replace(SETTINGS, warp="dense")
    )
    right = registered_of_wide(np.arange(found.region.left, found.region.right, dtype=float), 2)
    middle = registered_of_wide(np.array([found.region.top + found.region.height / 2]), 2)
    is_wrong = found.mapping.on_grid(right, middle)[0, :, 0] > half.shape[1] / 2 + 40
    assert is_wrong.sum() > 50
    assert (found.mask[:, is_wrong] > 0).mean() < 0.02
