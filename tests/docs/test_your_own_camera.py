"""The walk-through for a zoom lens: every command on the page, run in its order at a small size.

The page's commands are run as they stand. What is small is what they are given: eight small scenes
as `photos/`, and the page's recipe with three steps a stage.
"""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from d2csr.align.pairing import find_pairs
from d2csr.core.geometry import Size
from d2csr.core.manifest import read_manifest
from d2csr.images.reader import read_size
from d2csr.images.writer import write_rgb8
from d2csr.simulate.scene import draw_procedural_image
from tests.walkthrough import run, short_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "your-own-camera.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
RECIPE = "experiments/your_own_camera.yaml"
SCENES = 8


def shown_after(command):
    """Return the lines that the page shows as the command's output; none where it shows none."""
    for (kind, block), (next_kind, output) in pairwise(BLOCKS):
        if kind == "sh" and block.splitlines()[-1] == command and next_kind == "text":
            return [line for line in output.splitlines() if line not in ("", "...")]
    return []


def shape_of(line):
    """Return a line of output but for its figures and the room between words."""
    return " ".join(re.sub(r"[+-]?\d+(\.\d+)?", "0", line).split())


def small_photos(folder):
    """Write the scenes that are put before the simulated camera, drawn by chance."""
    for number in range(SCENES):
        scene = draw_procedural_image(Size(1300, 900), rng=np.random.default_rng(number))
        write_rgb8(folder / f"{number}.png", scene)


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Return the folder in which every command was run, and what each of them said."""
    folder = tmp_path_factory.mktemp("camera")
    (folder / "photos").mkdir()
    (folder / RECIPE).parent.mkdir()
    small_photos(folder / "photos")
    (folder / RECIPE).write_text(short_recipe((ROOT / RECIPE).read_text(encoding="utf-8")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "200")
        patch.setenv("D2CSR_CACHE", str(folder / "cache"))
        said = {command: run(command) for command in COMMANDS}
    return folder, said


def test_the_page_goes_from_photographs_to_an_enlargement():
    verbs = [shlex.split(command)[1] for command in COMMANDS]
    assert verbs == ["simulate", "align", "data", "train", "evaluate", "upscale"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_works_and_says_what_the_page_shows(command, walked):
    code, said = walked[1][command]
    assert code == 0, said
    shown = shown_after(command)
    lines = {shape_of(line) for line in said.splitlines()}
    assert shown
    assert [line for line in shown if shape_of(line) not in lines] == []


def test_most_captures_become_pairs_and_the_page_names_the_test_scene(walked):
    folder, _ = walked
    manifest = read_manifest(folder / "dataset/manifest.json")
    assert len(manifest.pairs) >= SCENES - 1
    (scene,) = re.findall(r"-i captures/(\d+)_wide\.jpg", "\n".join(COMMANDS))
    assert [pair.name for pair in manifest.of_split("test").pairs] == [f"Simulated_{scene}"]
    wide = read_size(folder / f"captures/{scene}_wide.jpg")
    assert read_size(folder / f"enlarged/{scene}_wide.jpg") == wide.times(manifest.scale)


def test_photographs_named_by_the_camera_are_paired_by_exif_alike(walked, tmp_path):
    folder, _ = walked
    sources = sorted((folder / "captures").glob("*.jpg"))
    names = {path: f"DSC_{number:04}.JPG" for number, path in enumerate(sources)}
    for path, name in names.items():
        (tmp_path / name).write_bytes(path.read_bytes())
    by_name = find_pairs(folder / "captures", scale=4)
    by_exif = find_pairs(tmp_path, scale=4)
    assert [(pair.wide.name, pair.tele.name) for pair in by_exif.pairs] == sorted(
        (names[pair.wide], names[pair.tele]) for pair in by_name.pairs
    )
    assert by_exif.unpaired == ()
