"""Every error of a set is reported together with the others: the file, the problem, the remedy."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from d2csr.core.errors import ImageError, ManifestError, PairError
from d2csr.core.geometry import Size
from d2csr.core.manifest import with_hashes
from d2csr.data.sources import open_pairs
from d2csr.data.validation import check_pairs
from d2csr.images.writer import write_gray8


def errors(folder, **options):
    return check_pairs(open_pairs(folder, scale=2), **{"patch_px": 8, **options})


def only(found):
    (error,) = found
    return error


def test_a_sound_set_has_no_errors(realsr):
    assert errors(realsr) == []


def test_a_missing_partner_is_named_with_the_name_expected(realsr):
    (realsr / "b_LR2.png").unlink()
    error = only(errors(realsr))
    assert error.where == str(realsr / "b_LR2.png")
    assert "missing, the partner of b_HR.png" in error.problem
    assert "b_HR.png" in error.remedy


def test_an_empty_file_is_named(realsr):
    (realsr / "b_HR.png").write_bytes(b"")
    error = only(errors(realsr))
    assert (error.where, error.problem) == (str(realsr / "b_HR.png"), "is empty (0 bytes)")


@pytest.mark.parametrize("kept", [20, 200, -40])
def test_a_file_cut_short_is_named(realsr, kept):
    path = realsr / "c_LR2.png"
    path.write_bytes(path.read_bytes()[:kept])
    assert only(errors(realsr)).where == str(path)


def test_damage_behind_the_header_is_found_only_by_decoding(realsr):
    path = realsr / "c_LR2.png"
    path.write_bytes(path.read_bytes()[:-40])
    assert errors(realsr, decode=False) == []
    assert "cut short" in only(errors(realsr)).problem


def test_a_text_file_called_png_is_named(realsr):
    (realsr / "a_HR.png").write_text("not an image at all")
    assert "not an image" in only(errors(realsr)).problem


def test_a_mislabelled_file_is_named_with_its_format(realsr, put):
    shutil.copy(put(realsr.parent / "x.webp", 24, 20), realsr / "a_HR.png")
    error = only(errors(realsr))
    assert isinstance(error, ImageError)
    assert "suffix is .png, its content is webp" in error.problem
    assert ".webp" in error.remedy


def test_sizes_that_do_not_fit_are_named_with_the_size_expected(realsr, put):
    put(realsr / "a_HR.png", 25, 20)
    error = only(errors(realsr))
    assert isinstance(error, PairError)
    assert error.where == str(realsr / "a_HR.png")
    assert "25x20 px" in error.problem
    assert "expects 24x20 px" in error.problem


def test_swapped_images_are_reported_as_such(realsr):
    lr, hr = realsr / "a_LR2.png", realsr / "a_HR.png"
    lr.rename(realsr / "x")
    hr.rename(lr)
    (realsr / "x").rename(hr)
    assert "look swapped" in only(errors(realsr)).problem


def test_an_image_smaller_than_the_crop_is_named(realsr):
    found = errors(realsr, patch_px=11)
    assert len(found) == 3
    assert found[0].where == str(realsr / "a_LR2.png")
    assert "12x10 px, smaller than the LR crop of 11x11 px" in found[0].problem
    assert errors(realsr, patch_px=10) == []
    assert errors(realsr, patch_px=None) == []


def test_all_errors_are_reported_together_in_the_order_of_the_pairs(realsr, put):
    put(realsr / "a_HR.png", 25, 20)
    (realsr / "b_LR2.png").unlink()
    (realsr / "c_LR2.png").write_bytes(b"")
    (realsr / "c_HR.png").write_text("x")
    found = {error.where.rpartition("/")[2] for error in errors(realsr)}
    assert found == {"a_HR.png", "b_LR2.png", "c_LR2.png", "c_HR.png"}


def test_a_file_changed_since_the_manifest_was_written_is_named(realsr, put):
    manifest = with_hashes(open_pairs(realsr))
    assert check_pairs(manifest, patch_px=8) == []
    put(realsr / "b_HR.png", 26, 20, seed=99)
    error = only(check_pairs(manifest, patch_px=8))
    assert isinstance(error, ManifestError)
    assert error.where == str(realsr / "b_HR.png")


@pytest.mark.parametrize(("key", "size"), [("lr_size", Size(0, 0)), ("hr_size", Size(24, 18))])
def test_recorded_sizes_that_are_not_the_files_are_named(realsr, key, size):
    manifest = open_pairs(realsr)
    pairs = (replace(manifest.pairs[0], **{key: size}), *manifest.pairs[1:])
    error = only(check_pairs(replace(manifest, pairs=pairs), patch_px=8))
    assert isinstance(error, ManifestError)
    assert f"{size} px" in error.problem
    assert "are recorded, not 12x10 and 24x20" in error.problem


@pytest.fixture
def masked(realsr):
    """Return a function that checks the pairs, the first of them with a mask."""

    def check(mask, **options):
        path = realsr.parent / "mask.png"
        write_gray8(path, mask)
        manifest = open_pairs(realsr)
        pairs = (replace(manifest.pairs[0], mask=path), *manifest.pairs[1:])
        return check_pairs(replace(manifest, pairs=pairs), patch_px=8, **options)

    return check


def test_a_mask_must_lie_on_the_lr_grid_and_leave_a_crop(masked):
    free = np.full((10, 12), 255, np.uint8)
    assert masked(free) == []
    assert "is 12x9 px, but" in only(masked(free[1:])).problem
    half = free.copy()
    half[:, 6:] = 0
    assert "allows no 8 px crop" in only(masked(half)).problem
    assert masked(half, mask_limit=0.5) == []


def test_a_missing_mask_is_named(masked, realsr):
    manifest = open_pairs(realsr)
    pairs = (replace(manifest.pairs[0], mask=realsr / "none.png"),)
    assert "does not exist" in only(check_pairs(replace(manifest, pairs=pairs), patch_px=8)).problem
