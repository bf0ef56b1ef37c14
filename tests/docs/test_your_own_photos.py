"""The path from a folder of photos to a model: the commands of the simulator's page, run small.

The commands are run as they stand. What is small is what they are given: ten small scenes as
`photos/`, and the recipe with three steps a stage, not compiled.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from d2csr.core.geometry import Size
from d2csr.core.manifest import read_manifest
from d2csr.images.reader import read_size
from d2csr.images.writer import write_rgb8
from d2csr.simulate.scene import draw_procedural_image
from tests.walkthrough import run, short_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
(COMMANDS,) = [block.splitlines() for block in BLOCKS if "d2csr train" in block]
RECIPE = "experiments/your_own_photos.yaml"
KINDS = ("camera", "phone", "web", "bicubic")
PHOTOS = 10


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Return the folder in which every command was run."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / RECIPE).parent.mkdir()
    recipe = short_recipe((ROOT / RECIPE).read_text(encoding="utf-8"))
    (folder / RECIPE).write_text(recipe.replace("compile: true", "compile: false"))
    (folder / "photos").mkdir()
    for number in range(PHOTOS):
        scene = draw_procedural_image(Size(260, 220), rng=np.random.default_rng(number))
        write_rgb8(folder / "photos" / f"{number}.png", scene)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "200")
        patch.setenv("D2CSR_CACHE", str(folder / "cache"))
        for command in COMMANDS:
            code, said = run(command)
            assert code == 0, f"{command}: {said}"
    return folder


def test_every_kind_of_pair_is_made_and_named_by_the_recipe(walked):
    presets = [words[words.index("--preset") + 1] for words in map(shlex.split, COMMANDS[:4])]
    assert sorted(presets) == sorted(KINDS)
    recipe = (ROOT / RECIPE).read_text(encoding="utf-8")
    for kind in KINDS:
        assert f"path: pairs/{kind}," in recipe
        assert len(read_manifest(walked / "pairs" / kind / "manifest.json").pairs) == 2 * PHOTOS


def test_the_same_photos_are_held_back_from_all_kinds(walked):
    held = [
        [pair.split for pair in read_manifest(walked / "pairs" / kind / "manifest.json").pairs]
        for kind in KINDS
    ]
    assert all(splits == held[0] for splits in held)
    assert {"train", "val", "test"} <= set(held[0])


def test_the_model_enlarges_the_photos(walked):
    for photo in (walked / "photos").iterdir():
        enlarged = walked / "enlarged" / photo.name
        assert read_size(enlarged) == read_size(photo).times(2)
