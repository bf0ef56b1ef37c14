"""A card with any wrong value is refused in one line that names the key; none is a traceback."""

import copy
import json
import os
import shutil
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest

from d2csr.core.bundle import Bundle, read_bundle, verify_bundle
from d2csr.core.errors import BundleError
from d2csr.engine.model import find_bundle

SHIPPED = find_bundle("photo-x2")
CARD = json.loads((SHIPPED / "bundle.json").read_text())
NAN, INFINITE = float("nan"), float("inf")

# Key -> values that it can't have. The path of a key inside lists and objects is joined by slashes.
WRONG = {
    "format_version": [True, 2.0, "2", [2], {}, 10**400],
    "name": ["a" * 300, "", "a/b", "a\nb", "\x1b[2J", 1, None],
    "licence": [None, 1],
    "data": [None, ["a"]],
    "steps": [-1, "3", 2.5, True],
    "seed": ["0", 0.5],
    "scores": [None, {}, [1], [{}], "a"],
    "scores/0/psnr_db": [None, "30", NAN, INFINITE, True, [30]],
    "scores/0/images": [None, 2.5, "5"],
    "scores/0/ssim_interval95": [None, [0.7], [0.7, 0.8, 0.9], ["a", "b"], [NAN, 1.0]],
    "scale": [2.0, True, "2", 0, -2, 5, 10**9, None, [2], 3],
    "parameters": [0, -1, 1.5, None, "many"],
    "config": [None, [], "photo", {}, {"scale": 2, "wings": 4}],
    "config/scale": [2.0, True, None, 5, "2"],
    "config/channels": [0, -1, 32.0, True, None, 10**9, 10**400],
    "config/depth": [0, 10**9, 7, "1", None],
    "config/children": [10**9, 0, 65, [2]],
    "config/blocks": [10**9, 10**6, 513, 1.5],
    "config/groups": [10**9, -1, 300],
    "config/trunk_groups": [10**9, 300, None],
    "config/pooling_px": [10**9 + 1, 4, 5.0, "5", True],
    "config/attention": [1, None, "yes"],
    "config/base": ["bilinear", None, ["none"], 1],
    "receptive_field": [None, {}, [19]],
    "receptive_field/trunk_lr_px": [-1, "a", None, NAN, 19.0, 18, 10**9],
    "receptive_field/halo_lr_rows": [-1, "a", None, NAN, INFINITE, 0, 10**9],
    "receptive_field/border_strip_lr_px": [-1, 4],
    "graphs": [None, [], {}, {"trunk": "trunk.onnx"}, {"trunk": 1, "tail": 2}],
    "graphs/trunk": ["../trunk.onnx", "/etc/passwd", "", "other.onnx", None, "a" * 300, "\0"],
    "graphs/wing": ["trunk.onnx"],
    "graphs/fusion": ["trunk.onnx"],
    "graphs/trunk_int8": ["trunk.onnx"],
    "files": [None, [], {}, {"trunk.onnx": 1}],
    "files/trunk": ["0" * 64],
    "files/..": ["0" * 64],
    "files/README.md": ["0" * 63, None, "g" * 64],
    "precisions": [None, [], {"bf16": None}],
    "precisions/bf16": [None, {}, {"psnr_to_fp32_db": None, "images": 1}, 74.0],
    "uncertainty": [1, {}, []],
    "uncertainty/spearman": [None, {"gradient": "high"}, {"gradient": NAN}],
}
CASES = [(key, value) for key, values in WRONG.items() for value in values]


def changed(key, value):
    """Return the shipped card with another value at a key."""
    card = copy.deepcopy(CARD)
    *steps, last = (int(step) if step.isdigit() else step for step in key.split("/"))
    reduce(getitem, steps, card)[last] = value
    return card


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder with the files of a shipped bundle, by links."""
    for path in SHIPPED.iterdir():
        if path.name != "bundle.json":
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def refuse(folder: Path, text: str | bytes, *, match: str = r"bundle\.json: ") -> str:
    path = folder / "bundle.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BundleError, match=match) as told:
        read_bundle(folder)
    line = str(told.value)
    assert len(line) < 2000
    assert all(character.isprintable() for character in line.replace(str(folder), ""))
    return line


def test_the_card_that_the_cases_change_is_valid(folder):
    (folder / "bundle.json").write_text(json.dumps(CARD))
    verify_bundle(read_bundle(folder))


@pytest.mark.parametrize(("key", "value"), CASES)
def test_a_wrong_value_is_refused(folder, key, value):
    refuse(folder, json.dumps(changed(key, value)), match=r"bundle\.json: |: lacks ")


@pytest.mark.parametrize("key", sorted(set(CARD) - {"precisions", "uncertainty", "runs"}))
def test_a_missing_key_is_named(folder, key):
    card = {name: value for name, value in CARD.items() if name != key}
    line = refuse(folder, json.dumps(card))
    assert key.replace("_", " ") in line.replace("_", " ")


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"format_version": 2, "scores": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"format_version": ' + "9" * 5000 + "}",
        '{"format_version": 2, "seed": ' + "9" * 4000 + "}",
        '{"format_version": 1e999}',
        "[" + "0," * 50_000 + "0]",
        "{" + ",".join(f'"{index}":0' for index in range(50_000)) + "}",
        '{"format_version": 2, "' + "a" * 500_000 + '": 1}',
        " " * 3_000_000,
        "\ufeff{}",
        "null",
        "2",
        '"text"',
        "",
        b"\xff\xfe{}",
        b'{"format_version": 2, "name": "\xff"}',
        b"\0" * 1000,
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_is_no_card_is_refused(folder, text):
    refuse(folder, text)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["pipe", "link to /dev/zero", "folder", "loop"])
def test_a_card_that_is_no_file_is_refused_at_once(folder, kind):
    path = folder / "bundle.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind != "loop" else path)
    with pytest.raises(BundleError, match="can't be read"):
        read_bundle(folder)


@pytest.fixture
def copied(tmp_path) -> Bundle:
    """Return a copy of a shipped bundle."""
    shutil.copytree(SHIPPED, tmp_path / "model")
    return read_bundle(tmp_path / "model")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file; its size and time of modification stay the same."""
    status, contents = path.stat(), bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("name", [*CARD["files"]])
def test_a_changed_bit_is_noticed_after_the_file_was_right(copied, name):
    verify_bundle(copied)
    flip(copied.folder / name)
    with pytest.raises(BundleError, match=f"doesn't match the hash of {name}"):
        verify_bundle(copied)


def test_files_are_hashed_once(copied, monkeypatch):
    monkeypatch.setattr("d2csr.core.bundle._CLOCK_TICK_S", -1e9)  # as if copied long ago
    verify_bundle(copied)
    monkeypatch.setattr("d2csr.core.bundle.sha256_file", pytest.fail)
    verify_bundle(copied)


def test_a_file_that_vanished_is_a_bundle_error(copied):
    (copied.folder / "tail.onnx").unlink()
    with pytest.raises(BundleError, match=r"can't be read: .*tail\.onnx"):
        verify_bundle(copied)
