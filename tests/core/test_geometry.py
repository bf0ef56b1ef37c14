"""Sizes, and the eight flips and turns."""

import numpy as np
import pytest

from d2csr.core.geometry import TURNS, Size, dihedral_transform, excess_px


def test_the_eight_transforms_of_an_image_all_differ_and_the_first_is_the_identity():
    image = np.arange(12).reshape(3, 4)
    seen = {
        (view.shape, view.tobytes())
        for view in (dihedral_transform(image, turn) for turn in range(TURNS))
    }
    assert len(seen) == TURNS
    assert np.array_equal(dihedral_transform(image, 0), image)


def test_turning_again_stays_among_the_eight():
    image = np.arange(9).reshape(3, 3)
    eight = {dihedral_transform(image, turn).tobytes() for turn in range(TURNS)}
    again = {
        dihedral_transform(dihedral_transform(image, a), b).tobytes()
        for a in range(TURNS)
        for b in range(TURNS)
    }
    assert again == eight


@pytest.mark.parametrize("turn", range(TURNS))
def test_a_image_and_its_enlargement_turn_alike(turn):
    image = np.arange(12).reshape(3, 4)
    enlarged = image.repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(
        dihedral_transform(image, turn).repeat(2, 0).repeat(2, 1),
        dihedral_transform(enlarged, turn),
    )


def test_sizes_read_as_people_write_them():
    assert str(Size(406, 290).times(3)) == "1218x870"
    assert excess_px(Size(510, 510), Size(512, 511)) == (2, 1)
