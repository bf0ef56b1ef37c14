import cv2
import numpy as np
import pytest

from d2csr.align.lens import IDENTITY, Lens
from d2csr.align.lens_source import fitted_lens, lens_choice
from d2csr.core.errors import DataError, UsageError
from d2csr.core.grid import Size

FRAME = Size(640, 480)
CURVED = Lens(k1=-0.08, k2=0.02, k3=0.003, p1=1e-3, p2=-5e-4)


def test_distortion_agrees_with_opencv(rng):
    points = rng.uniform(0, 1, (200, 2)) * FRAME
    corner = np.hypot(*FRAME) / 2
    middle = (np.array(FRAME) - 1) / 2
    camera = np.array([[corner, 0, middle[0]], [0, corner, middle[1]], [0, 0, 1.0]])
    rays = np.concatenate([(points - middle) / corner, np.ones((200, 1))], axis=1)
    figures = np.array([CURVED.k1, CURVED.k2, CURVED.p1, CURVED.p2, CURVED.k3])
    theirs, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera, figures)
    np.testing.assert_allclose(CURVED.distorted(points, FRAME), theirs[:, 0], atol=1e-6)


def test_ideal_undoes_distorted(rng):
    points = rng.uniform(0, 1, (200, 2)) * FRAME
    there = CURVED.distorted(points, FRAME)
    np.testing.assert_allclose(CURVED.ideal(there, FRAME), points, atol=1e-4)


def test_identity_moves_nothing(rng):
    points = rng.uniform(0, 1, (10, 2)) * FRAME
    assert IDENTITY.distorted(points, FRAME) is points


def test_radial_terms_are_read_off_a_map_of_places(tmp_path):
    radial = Lens(k1=-0.05, k2=0.01)
    grid = np.stack(np.meshgrid(np.arange(0, 640, 10), np.arange(0, 480, 10)), -1).astype(float)
    found = fitted_lens(radial.distorted(grid, FRAME), 10, frame=FRAME, path=tmp_path)
    np.testing.assert_allclose([found.k1, found.k2, found.k3], [-0.05, 0.01, 0], atol=1e-9)


def test_lens_file_gives_both_lenses(tmp_path):
    path = tmp_path / "lens.json"
    path.write_text('{"wide": {"k1": -0.03}, "tele": {"k1": 0.01, "p1": 0.001}}')
    choice = lens_choice(str(path))
    assert (choice.wide, choice.tele) == (Lens(k1=-0.03), Lens(k1=0.01, p1=0.001))


@pytest.mark.parametrize("text", ['{"wide": {"k9": 1}}', "[]", "no json"])
def test_faulty_lens_file_is_told(tmp_path, text):
    path = tmp_path / "lens.json"
    path.write_text(text)
    with pytest.raises(DataError, match="holds no lenses"):
        lens_choice(str(path))


def test_unknown_lens_word_is_told():
    with pytest.raises(UsageError, match="none of its choices"):
        lens_choice("fisheye")
