"""The manifest file: what is written is read again, and what is wrong is named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2csr.core.errors import ManifestError
from d2csr.core.files import sha256_file
from d2csr.core.geometry import Size
from d2csr.core.manifest import Manifest, Pair, read_manifest, write_manifest

FOLDER = Path("/set")
WORDS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
FILE_NAMES = WORDS.filter(lambda word: word.strip(".") != "")
HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
SIZES = st.builds(Size, st.integers(0, 9999), st.integers(0, 9999))
JSON = st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=3)
PAIRS = st.builds(
    Pair,
    name=WORDS,
    split=st.sampled_from(["", "train", "val", "test"]),
    lr=FILE_NAMES.map(FOLDER.joinpath),
    hr=FILE_NAMES.map(lambda name: FOLDER / "HR" / name),
    lr_size=SIZES,
    hr_size=SIZES,
    sha256_lr=HASHES,
    sha256_hr=HASHES,
    mask=st.none() | FILE_NAMES.map(FOLDER.joinpath),
    scores=st.none() | JSON,
    transform=st.none() | JSON,
    camera=st.none() | WORDS,
)
UNIQUE = st.lists(PAIRS, max_size=4, unique_by=lambda pair: (pair.split, pair.name))


@given(st.integers(1, 16), st.text(st.characters(exclude_categories=["Cs"])), UNIQUE)
def test_any_manifest_comes_back_as_it_was_written(tmp_path_factory, scale, licence, pairs):
    folder = tmp_path_factory.mktemp("set")
    here = [_moved(pair, folder) for pair in pairs]
    manifest = Manifest(scale, licence, tuple(here), folder)
    write_manifest(manifest, folder / "manifest.json")
    assert read_manifest(folder / "manifest.json") == manifest


def _moved(pair, folder):
    def moved(path):
        return None if path is None else folder / path.relative_to(FOLDER)

    return replace(pair, lr=moved(pair.lr), hr=moved(pair.hr), mask=moved(pair.mask))


@pytest.fixture
def pair(tmp_path):
    for name in ("lr.png", "hr.png"):
        (tmp_path / name).write_text(name)
    return Pair("a", "", tmp_path / "lr.png", tmp_path / "hr.png", Size(2, 1), Size(4, 2))


def test_hashes_are_filled_in_and_paths_are_relative_when_written(tmp_path, pair):
    path = tmp_path / "sets" / "ä" / "manifest.json"
    write_manifest(Manifest(2, "MIT", (pair,), path.parent), path)
    (row,) = json.loads(path.read_text(encoding="utf-8"))["pairs"]
    assert row["lr"] == "../../lr.png"
    assert row["sha256_hr"] == sha256_file(pair.hr)
    assert read_manifest(path, allow_outside=True).pairs[0].lr.read_text() == "lr.png"


@pytest.mark.parametrize("key", ["lr", "hr", "mask"])
@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "..", "/etc/passwd", "./a/.././../x.png", "//x.png"]
)
def test_files_outside_the_folder_are_refused_unless_allowed(tmp_path, pair, key, name):
    path = tmp_path / "manifest.json"
    write_manifest(Manifest(2, "MIT", (pair,), tmp_path), path)
    values = json.loads(path.read_text())
    values["pairs"][0][key] = name
    path.write_text(json.dumps(values))
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert "outside its folder: " in caught.value.problem
    assert repr(name) in caught.value.problem
    assert "--allow-outside" in caught.value.remedy
    assert getattr(read_manifest(path, allow_outside=True).pairs[0], key) == tmp_path / name


@pytest.mark.parametrize("name", ["a..png", "a/../lr.png", "..a/b.png", "./lr.png"])
def test_files_inside_the_folder_may_have_dots_in_their_paths(tmp_path, pair, name):
    path = tmp_path / "manifest.json"
    write_manifest(Manifest(2, "MIT", (pair,), tmp_path), path)
    values = json.loads(path.read_text())
    values["pairs"][0]["lr"] = name
    path.write_text(json.dumps(values))
    assert read_manifest(path).pairs[0].lr == tmp_path / name


@pytest.mark.parametrize("side", [-5, 10**30, 1 << 31, 2.0, "2", None])
def test_sizes_that_no_image_has_are_named(tmp_path, pair, side):
    path = tmp_path / "manifest.json"
    write_manifest(Manifest(2, "MIT", (pair,), tmp_path), path)
    values = json.loads(path.read_text())
    values["pairs"][0]["hr_size"][1] = side
    path.write_text(json.dumps(values))
    with pytest.raises(ManifestError, match=r"pairs\.0\.hr_size\.1: must be"):
        read_manifest(path)


def test_a_manifest_has_the_fields_of_its_published_version(tmp_path, pair):
    write_manifest(Manifest(2, "MIT", (pair,), tmp_path), tmp_path / "manifest.json")
    values = json.loads((tmp_path / "manifest.json").read_text())
    assert set(values) == {"version", "scale", "licence", "pairs"}
    assert values["version"] == 1
    assert set(values["pairs"][0]) == {
        "name", "split", "lr", "hr", "lr_size", "hr_size", "sha256_lr", "sha256_hr",
        "mask", "scores", "transform", "camera",
    }  # fmt: skip


def test_every_wrong_entry_is_named_at_once(tmp_path, pair):
    path = tmp_path / "manifest.json"
    write_manifest(Manifest(2, "MIT", (pair,), tmp_path), path)
    values = json.loads(path.read_text())
    values["scale"] = "two"
    values["pairs"][0] |= {"sha256_lr": "short", "color": "red"}
    path.write_text(json.dumps(values))
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    for word in ("scale", "pairs.0.sha256_lr", "pairs.0.color"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (None, "can't be read"),
        ("{", "is not JSON"),
        ("{}", "has version None"),
        ("[]", "must be an object"),
        ('{"version": 2}', "has version 2"),
        (b"\xff\xfe", "is not JSON"),
    ],
)
def test_a_file_that_is_no_manifest_of_this_version_is_refused(tmp_path, contents, message):
    path = tmp_path / "manifest.json"
    if contents is not None:
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


def test_two_pairs_of_one_split_may_not_share_a_name(tmp_path, pair):
    path = tmp_path / "manifest.json"
    write_manifest(Manifest(2, "MIT", (pair, replace(pair, split="val")), tmp_path), path)
    assert len(read_manifest(path).of_split("val")) == 1
    write_manifest(Manifest(2, "MIT", (pair, pair), tmp_path), path)
    with pytest.raises(ManifestError, match="'a'"):
        read_manifest(path)
