"""Names of files can't move the cursor, clear the screen or add lines, in any command's output."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from d2csr.core.bundle import Bundle
from d2csr.images.writer import write_rgb8
from tests.tiny_models import tiny_bundle

EVIL = "a\x1b[2J\x1b]0;pwned\x07\nforged: b\r\x9b1m\x7f\u202e\u2028 c"
SHOWN = r"a\u001b[2J\u001b]0;pwned\u0007\u000aforged: b\u000d\u009b1m\u007f\u202e\u2028 c"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
LR8 = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    """Return a bundle of a x2 network."""
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def evil(tmp_path) -> Path:
    """Return a folder of such a name, in which are images and folders of such names."""
    folder = tmp_path / EVIL
    folder.mkdir()
    write_rgb8(folder / f"{EVIL}.png", LR8)
    (folder / "damaged\x1b[2J.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (folder / "mislabelled\nerror: x.jpg").write_bytes((folder / f"{EVIL}.png").read_bytes())
    os.mkfifo(folder / "pipe\x1b.png")
    return folder


COMMANDS = {
    "upscale": ("upscale", "-i", "EVIL", "-o", "EVIL/out", "-n", "BUNDLE"),
    "dry run": ("upscale", "-i", "EVIL", "-o", "EVIL/out", "-n", "BUNDLE", "--dry-run"),
    "JSON": ("upscale", "-i", "EVIL", "-o", "EVIL/out", "-n", "BUNDLE", "--json"),
    "dry run, JSON": ("upscale", "-i", "EVIL", "-o", "o", "-n", "BUNDLE", "--dry-run", "--json"),
    "nothing there": ("upscale", "-i", "EVIL/none", "-o", "EVIL/out", "-n", "BUNDLE"),
    "no model": ("upscale", "-i", "EVIL", "-o", "EVIL/out", "-n", "EVIL/model"),
    "unknown option": ("upscale", "-i", "EVIL", "-o", "o", "--EVIL"),
    "unknown choice": ("upscale", "-i", "EVIL", "-o", "o", "--backend", "EVIL"),
    "data check": ("data", "check", "EVIL"),
    "data bicubic": ("data", "bicubic", "EVIL", "-o", "EVIL/pairs", "-s", "2"),
    "align": ("align", "EVIL", "-o", "EVIL/set", "--scale", "2"),
    "evaluate": ("evaluate", "--data", "EVIL", "-n", "EVIL"),
    "export": ("export", "EVIL", "-o", "EVIL/bundle"),
    "convert": ("convert", "official", "EVIL", "-o", "EVIL/bundle"),
    "train": ("train", "EVIL/recipe.yaml", "-o", "EVIL/run"),
    "simulate": ("simulate", "-i", "EVIL", "-o", "EVIL/pairs", "-s", "2"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_the_control_characters_of_names(d2csr, bundle, evil, tmp_path, name):
    os.chdir(tmp_path)
    words = (
        word.replace("EVIL", EVIL if word.startswith("--") else str(evil)).replace(
            "BUNDLE", str(bundle.folder)
        )
        for word in COMMANDS[name]
    )
    answer = d2csr(*words)
    printed = answer.out + answer.err
    assert CONTROL.findall(printed) == []
    assert "\nforged: b" not in printed
    assert r"\u001b[2J" in "".join(printed.split())


def test_names_in_json_are_those_of_the_files(d2csr, bundle, evil, tmp_path):
    answer = d2csr("upscale", "-i", evil, "-o", tmp_path / "out", "-n", bundle.folder, "--json")
    images = [json.loads(line) for line in answer.out.splitlines()]
    assert str(evil / f"{EVIL}.png") in {image.get("input") for image in images}


def test_a_name_that_is_no_utf_8_is_printed(d2csr, bundle, tmp_path):
    path = Path(os.fsdecode(bytes(tmp_path) + b"/latin \xe9.png"))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    for words in ((), ("--json",), ("--dry-run",)):
        answer = d2csr("upscale", "-i", path, "-o", tmp_path / "o", "-n", bundle.folder, *words)
        assert answer.code == 2
        assert r"latin \udce9.png: is damaged" in answer.err
