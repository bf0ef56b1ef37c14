from dataclasses import replace
from pathlib import Path

import cv2
import lensfunpy
import numpy as np
import pytest

from d2csr.align.build import estimate_lenses, lens_group
from d2csr.align.camera_info import CameraInfo
from d2csr.align.outcome import PairResult, RegistrationRecord, Status, Verdict
from d2csr.align.pairing import PhotoPair
from d2csr.align.registration.lens import (
    distort,
    fit_radial_terms,
    parse_lens_spec,
    read_lensfun_lens,
    undistort,
)
from d2csr.core.errors import DataError, UsageError
from d2csr.core.geometry import NO_DISTORTION, BrownDistortion, Size

FRAME = Size(640, 480)
CURVED = BrownDistortion(k1=-0.08, k2=0.02, k3=0.003, p1=1e-3, p2=-5e-4)


def test_distortion_agrees_with_opencv(rng):
    points = rng.uniform(0, 1, (200, 2)) * FRAME
    corner = np.hypot(*FRAME) / 2
    middle = (np.array(FRAME) - 1) / 2
    camera = np.array([[corner, 0, middle[0]], [0, corner, middle[1]], [0, 0, 1.0]])
    rays = np.concatenate([(points - middle) / corner, np.ones((200, 1))], axis=1)
    figures = np.array([CURVED.k1, CURVED.k2, CURVED.p1, CURVED.p2, CURVED.k3])
    theirs, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera, figures)
    np.testing.assert_allclose(distort(points, CURVED, frame=FRAME), theirs[:, 0], atol=1e-6)


def test_undistort_inverts_distort(rng):
    points = rng.uniform(0, 1, (200, 2)) * FRAME
    there = distort(points, CURVED, frame=FRAME)
    np.testing.assert_allclose(undistort(there, CURVED, frame=FRAME), points, atol=1e-4)


def test_no_distortion_returns_the_points(rng):
    points = rng.uniform(0, 1, (10, 2)) * FRAME
    assert distort(points, NO_DISTORTION, frame=FRAME) is points


def test_radial_terms_are_fitted_to_a_map(tmp_path):
    radial = BrownDistortion(k1=-0.05, k2=0.01)
    grid = np.stack(np.meshgrid(np.arange(0, 640, 10), np.arange(0, 480, 10)), -1).astype(float)
    found = fit_radial_terms(distort(grid, radial, frame=FRAME), 10, frame=FRAME, path=tmp_path)
    np.testing.assert_allclose([found.k1, found.k2, found.k3], [-0.05, 0.01, 0], atol=1e-9)


def test_lens_file_gives_both_lenses(tmp_path):
    path = tmp_path / "lens.json"
    path.write_text('{"wide": {"k1": -0.03}, "tele": {"k1": 0.01, "p1": 0.001}}')
    choice = parse_lens_spec(str(path))
    assert (choice.wide, choice.tele) == (
        BrownDistortion(k1=-0.03),
        BrownDistortion(k1=0.01, p1=0.001),
    )


@pytest.mark.parametrize(
    "text", ['{"wide": {"k9": 1}}', "[]", "no json", '{"wide": {"k1": NaN}}', "[" * 100_000]
)
def test_invalid_lens_file_is_refused(tmp_path, text):
    path = tmp_path / "lens.json"
    path.write_text(text)
    problem = "doesn't follow the schema|is not JSON|more than 20,000 values"
    with pytest.raises(DataError, match=problem):
        parse_lens_spec(str(path))


def test_unknown_lens_word_is_refused():
    with pytest.raises(UsageError, match="neither a choice nor a file"):
        parse_lens_spec("fisheye")


CANON = CameraInfo(make="Canon", model="Canon EOS 5D Mark II", lens="Canon EF 24-105mm f/4L IS USM",
              focal_mm=24.0, f_number=8.0)  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_lensfun_distortion_is_reproduced_up_to_scaling(tmp_path):
    frame = Size(600, 400)
    lens = read_lensfun_lens(CANON, frame, path=tmp_path)
    database = lensfunpy.Database()
    (camera,) = database.find_cameras(CANON.make, CANON.model)
    known = database.find_lenses(camera, None, CANON.lens)[0]
    modifier = lensfunpy.Modifier(known, camera.crop_factor, *frame)
    modifier.initialize(24.0, 8.0, 10.0, flags=lensfunpy.ModifyFlags.DISTORTION)
    theirs = modifier.apply_geometry_distortion(0, 0, *frame).reshape(-1, 2).astype(float)
    grid = np.stack(np.meshgrid(np.arange(600.0), np.arange(400.0)), -1).reshape(-1, 2)
    matrix, _ = cv2.estimateAffinePartial2D(undistort(theirs, lens, frame=frame), grid)
    left = undistort(theirs, lens, frame=frame) @ matrix[:, :2].T + matrix[:, 2] - grid
    similarity_matrix, _ = cv2.estimateAffinePartial2D(theirs, grid)
    before = theirs @ similarity_matrix[:, :2].T + similarity_matrix[:, 2] - grid
    assert np.hypot(*before.T).max() > 3  # so much is there to undo
    assert np.hypot(*left.T).max() < 0.4


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (replace(CANON, lens=""), "doesn't name its lens, and .* fit the camera"),
        (replace(CANON, focal_mm=400.0), "doesn't know"),
        (replace(CANON, model="Abacus 3"), "doesn't know"),
        (replace(CANON, focal_mm=None), "no camera name and focal length"),
    ],
)
def test_lens_unknown_to_lensfun_is_refused(camera, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_lensfun_lens(camera, FRAME, path=tmp_path)


def test_lenses_of_a_set_are_the_median_of_its_accepted_pairs():
    def result(k1: float, status: Status, camera: str = "A") -> PairResult:
        lens = {"k1": k1, "k2": 0.0, "k3": 0.0, "p1": 0.0, "p2": 0.0}
        transform = {"wide_lens": lens, "tele_lens": lens, "focal_mm": [24.0, 70.0]}
        photos = PhotoPair("", "", Path(), Path())
        record = RegistrationRecord(transform=transform)
        return PairResult("", "", photos, camera, Verdict(status), registration=record)

    results = [result(k1, "accepted") for k1 in (-0.06, -0.05, 0.5)]
    results += [result(9.0, "rejected"), result(-0.2, "accepted", camera="B")]
    found = estimate_lenses(results)
    assert found[lens_group(results[0])].wide == BrownDistortion(k1=-0.05)
    assert found[lens_group(results[-1])].tele == BrownDistortion(k1=-0.2)
