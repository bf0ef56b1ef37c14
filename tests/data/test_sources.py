"""Every layout opens as the pairs it holds, and nothing is written into it."""

import json
from dataclasses import replace

import pytest

from d2csr.core.errors import DataError, ManifestError
from d2csr.core.geometry import UNKNOWN_SIZE, Size
from d2csr.core.manifest import write_manifest
from d2csr.data.sources import open_pairs
from d2csr.data.validation import check_pairs


def names(manifest):
    return [pair.name for pair in manifest]


def files(manifest, folder):
    return [tuple(str(p.relative_to(folder)) for p in (pair.lr, pair.hr)) for pair in manifest]


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def tree(tmp_path, put):
    """Return a function that makes images: path -> (width, height)."""

    def make(sizes):
        for index, (name, size) in enumerate(sizes.items()):
            put(tmp_path / name, *size, seed=index)
        return tmp_path

    return make


def test_suffixed_names_are_realsrs(realsr):
    before = snapshot(realsr)
    manifest = open_pairs(realsr)
    assert (manifest.scale, names(manifest)) == (2, ["a", "b", "c"])
    assert manifest.pairs[1].lr_size == Size(13, 10)
    assert check_pairs(manifest, patch_px=10) == []
    assert snapshot(realsr) == before


@pytest.fixture
def realsr_tree(tree):
    sizes = {}
    for camera in ("Canon", "Nikon"):
        for split, scale in (("Train", 2), ("Train", 3), ("Test", 3)):
            folder = f"RealSR(V3)/{camera}/{split}/{scale}"
            sizes[f"{folder}/{camera}_001_HR.png"] = (12 * scale, 8 * scale)
            sizes[f"{folder}/{camera}_001_LR{scale}.png"] = (12, 8)
    return tree(sizes)


def test_realsr_v3_opens_at_its_root_by_scale_and_split(realsr_tree):
    manifest = open_pairs(realsr_tree, scale=3)
    assert [(pair.name, pair.split, pair.camera) for pair in manifest] == [
        ("Canon_001", "test", "Canon"),
        ("Canon_001", "train", "Canon"),
        ("Nikon_001", "test", "Nikon"),
        ("Nikon_001", "train", "Nikon"),
    ]
    assert len(open_pairs(realsr_tree, scale=3, split="test")) == 2
    assert check_pairs(manifest, patch_px=8) == []


@pytest.mark.parametrize("below", ["Canon/Train/3", "Canon/Test/3", "Canon/Train"])
def test_realsr_v3_opens_at_any_folder(realsr_tree, below):
    manifest = open_pairs(realsr_tree / "RealSR(V3)" / below, scale=3)
    assert {pair.split for pair in manifest} == {below.split("/")[1].lower()}


def test_several_scales_must_be_chosen_from(realsr_tree):
    with pytest.raises(DataError, match=r"several scales \(2, 3\)"):
        open_pairs(realsr_tree)
    with pytest.raises(DataError, match="no pairs of scale 4"):
        open_pairs(realsr_tree, scale=4)
    with pytest.raises(DataError, match=r"split 'val'.*test, train"):
        open_pairs(realsr_tree, scale=3, split="val")


def test_a_folder_above_called_test_is_no_split(tree):
    root = tree({"test/home/set/a_HR.png": (24, 20), "test/home/set/a_LR2.png": (12, 10)})
    assert open_pairs(root / "test/home/set").pairs[0].split == ""


def test_one_hr_image_may_serve_several_scales(tree):
    root = tree({"a_HR.png": (24, 12), "a_LR2.png": (12, 6), "a_LR3.png": (8, 4)})
    assert open_pairs(root, scale=2).pairs[0].hr == open_pairs(root, scale=3).pairs[0].hr


def test_drealsr_opens_by_scale(tree):
    sizes = {}
    for scale in (2, 4):
        for split in ("Train", "Test"):
            folder = f"x{scale}/{split}_x{scale}/{split.lower()}"
            sizes[f"{folder}_HR/DSC_1286_x{scale}.png"] = (8 * scale, 6 * scale)
            sizes[f"{folder}_LR/DSC_1286_x1.png"] = (8, 6)
    manifest = open_pairs(tree(sizes), scale=4)
    assert [(pair.name, pair.split) for pair in manifest] == [
        ("DSC_1286", "test"),
        ("DSC_1286", "train"),
    ]
    assert check_pairs(manifest, patch_px=6) == []


def test_the_scale_of_d2crealsr_is_measured_from_its_sizes(tree):
    folder = "D2CRealSR"
    manifest = open_pairs(
        tree(
            {
                f"{folder}/{split}_{role}/img_{split}.png": (8 * factor, 4 * factor)
                for split in ("train", "test")
                for role, factor in (("HR", 8), ("LR", 1))
            }
        )
    )
    assert manifest.scale == 8
    assert [(pair.name, pair.split) for pair in manifest] == [
        ("img_test", "test"),
        ("img_train", "train"),
    ]


@pytest.mark.parametrize("top", ["", "LR_bicubic/.."])
def test_a_benchmark_cuts_its_hr_images(tree, top):
    root = tree(
        {
            "HR/baby.webp": (26, 25),
            "HR/box2.webp": (24, 24),
            "LR_bicubic/X2/babyx2.png": (13, 12),
            "LR_bicubic/X2/box2x2.png": (12, 12),
            "LR_bicubic/X3/babyx3.png": (8, 8),
            "LR_bicubic/X3/box2x3.png": (8, 8),
        }
    )
    manifest = open_pairs(root / top, scale=3)
    assert names(manifest) == ["baby", "box2"]
    assert manifest.pairs[0].hr_size == Size(24, 24)
    assert check_pairs(manifest, patch_px=None) == []
    assert check_pairs(open_pairs(root, scale=2), patch_px=None) == []


def test_set5_opens_at_every_scale(data_folder):
    for scale in (2, 3, 4, 8):
        manifest = open_pairs(data_folder / "benchmarks/Set5", scale=scale)
        assert names(manifest) == ["baby", "bird", "butterfly", "head", "woman"]
        assert check_pairs(manifest, patch_px=None) == []


def test_city100_opens_with_its_published_splits(data_folder):
    manifest = open_pairs(data_folder / "city100/nikon_d5500_x3")
    assert manifest.scale == 3
    sizes = {split: len(manifest.of_split(split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 60, "val": 5, "test": 5}
    test = open_pairs(data_folder / "city100/nikon_d5500_x3/test", scale=3)
    assert names(test) == [f"Nikon_{scene:03d}" for scene in (1, 16, 48, 60, 98)]
    assert {pair.split for pair in test} == {"test"}


def test_basicsr_folders_are_benchmarks_too(tree):
    manifest = open_pairs(tree({"GTmod12/a.png": (24, 12), "LRbicx4/a.png": (6, 3)}))
    assert (manifest.scale, names(manifest)) == (4, ["a"])


def test_div2k_folders_open(tree):
    root = tree({"DIV2K_train_HR/0801.png": (9, 6), "DIV2K_train_LR_bicubic/X3/0801x3.png": (3, 2)})
    assert files(open_pairs(root), root) == [
        ("DIV2K_train_LR_bicubic/X3/0801x3.png", "DIV2K_train_HR/0801.png")
    ]


def test_two_kinds_of_lr_images_are_not_guessed_between(tree):
    sizes = {f"a_LR_{kind}/X2/1x2.png": (4, 4) for kind in ("bicubic", "mild")}
    with pytest.raises(DataError, match="LR images lie in"):
        open_pairs(tree({"a_HR/1.png": (8, 8), **sizes}))


def test_two_folders_of_equal_names_are_distinguished_by_size(tree):
    root = tree({f"{name}/ü{i}.png": size for name, size in (("far", (4, 3)), ("near", (8, 6)))
                 for i in range(3)})  # fmt: skip
    manifest = open_pairs(root)
    assert manifest.scale == 2
    assert files(manifest, root)[0] == ("far/ü0.png", "near/ü0.png")


def test_a_list_file_names_lr_then_hr(tree, tmp_path):
    root = tree({"in/Canon_1_LR2.png": (4, 4), "out/Canon_1_HR.png": (9, 8), "in/b c.png": (3, 3),
                 "out/b c.png": (6, 6)})  # fmt: skip
    lines = ["in/Canon_1_LR2.png out/Canon_1_HR.png", "", f"{root}/in/b c.png {root}/out/b c.png"]
    (root / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    manifest = open_pairs(root / "list.txt")
    assert manifest.scale == 2
    assert [(pair.name, pair.hr_size) for pair in manifest] == [
        ("Canon_1", Size(8, 8)),
        ("b c", Size(6, 6)),
    ]
    assert check_pairs(manifest, patch_px=None) == []


def test_wrong_lines_of_a_list_are_all_named(tmp_path):
    (tmp_path / "list.txt").write_text("one\na.png b.png\none two three\n")
    with pytest.raises(DataError, match="line 1, 3"):
        open_pairs(tmp_path / "list.txt")


@pytest.mark.parametrize("contents", [b"\xff\xfe\x00", b"", b"\n\n"])
def test_a_file_that_lists_nothing_is_refused(tmp_path, contents):
    (tmp_path / "list.txt").write_bytes(contents)
    with pytest.raises(DataError):
        open_pairs(tmp_path / "list.txt")


def test_pairs_of_one_name_in_a_list_get_their_folders_names(tree):
    root = tree({f"{place}/a_{role}.png": (4 * f, 4 * f) for place in ("x", "y")
                 for role, f in (("LR2", 1), ("HR", 2))})  # fmt: skip
    (root / "l.txt").write_text("".join(f"{p}/a_LR2.png {p}/a_HR.png\n" for p in "xy"))
    assert names(open_pairs(root / "l.txt")) == ["x-a", "y-a"]
    (root / "l.txt").write_text("x/a_LR2.png x/a_HR.png\n" * 2)
    with pytest.raises(DataError, match="several pairs"):
        open_pairs(root / "l.txt")


def test_a_manifest_opens_by_its_file_or_folder(realsr, tmp_path):
    manifest = open_pairs(realsr)
    pairs = tuple(replace(pair, split=f"s{i}") for i, pair in enumerate(manifest))
    path = tmp_path / "manifest.json"
    write_manifest(replace(manifest, pairs=pairs, licence="MIT"), path)
    assert open_pairs(path.parent) == open_pairs(path)
    assert open_pairs(path).licence == "MIT"
    assert names(open_pairs(path, split="s1")) == ["b"]
    with pytest.raises(DataError, match="scale 2, not 3"):
        open_pairs(path, scale=3)
    path.write_text(json.dumps({"version": 9}))
    with pytest.raises(ManifestError):
        open_pairs(path.parent)


@pytest.mark.parametrize("below", ["", "City100", "City100/City100_iPhoneX"])
def test_a_city100_clone_is_refused_with_the_command_that_imports_it(tree, below):
    cameras = ("City100_NikonD5500", "City100_iPhoneX")
    clone = tree({f"clone/City100/{camera}/001{role}.png": (12, 6)
                  for camera in cameras for role in "HL"}) / "clone" / below  # fmt: skip
    with pytest.raises(DataError) as caught:
        open_pairs(clone, scale=3)
    assert f"`d2csr data import city100 {clone} -o FOLDER`" in caught.value.remedy


def test_hidden_files_of_other_systems_are_no_images(realsr):
    (realsr / "._a_HR.png").write_bytes(b"junk")
    (realsr / "__MACOSX").mkdir()
    (realsr / "__MACOSX" / "d_HR.png").write_bytes(b"junk")
    (realsr / "Thumbs.db").write_bytes(b"junk")
    assert names(open_pairs(realsr)) == ["a", "b", "c"]


def test_a_missing_partner_stays_in_the_manifest_under_the_name_expected(realsr):
    (realsr / "a_LR2.png").unlink()
    (realsr / "b_HR.png").unlink()
    manifest = open_pairs(realsr)
    by_name = {pair.name: pair for pair in manifest}
    assert by_name["a"].lr == realsr / "a_LR2.png"
    assert by_name["a"].lr_size == UNKNOWN_SIZE
    assert by_name["b"].hr == realsr / "b_HR.png"


def test_if_every_lr_image_is_missing_the_expected_names_are_reported(tree):
    root = tree({"a_HR.png": (12, 12), "b_HR.png": (12, 12)})
    missing = [error.where for error in check_pairs(open_pairs(root, scale=3), patch_px=4)]
    assert missing == [str(root / "a_LR3.png"), str(root / "b_LR3.png")]
    with pytest.raises(DataError, match="in no pair can both images be read"):
        open_pairs(root)


def test_swapped_folders_are_reported_as_such(tree):
    root = tree({"HR/a.png": (4, 4), "LR/a.png": (8, 8)})
    with pytest.raises(DataError, match="swapped"):
        open_pairs(root)
    (error,) = check_pairs(open_pairs(root, scale=2), patch_px=None)
    assert "look swapped" in error.problem


@pytest.mark.parametrize("content", [None, {}, {"x.png": (4, 4)}])
def test_a_path_without_pairs_is_refused_with_the_known_layouts(tmp_path, tree, content):
    folder = tmp_path if content is not None else tmp_path / "nowhere"
    if content:
        tree(content)
    with pytest.raises(DataError, match="does not exist" if content is None else "RealSR V3"):
        open_pairs(folder)
