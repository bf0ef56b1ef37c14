"""The page on fine-tuning: its commands, run in their order at a small size.

The commands are run as they stand. What is small is what they are given: eight small scenes as
`photos/`, and the recipe that they print with three steps and two crops each.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from d2csr.core.bundle import read_bundle
from d2csr.core.geometry import Size
from d2csr.engine.model import find_bundle
from d2csr.images.reader import read_size
from d2csr.images.writer import write_rgb8
from d2csr.simulate.scene import draw_procedural_image
from d2csr.training.recipe import read_recipe
from tests.walkthrough import run, short_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
PHOTOS = 8


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Return the folder in which every command was run, and what each of them said."""
    folder = tmp_path_factory.mktemp("fine")
    (folder / "photos").mkdir()
    for number in range(PHOTOS):
        scene = draw_procedural_image(Size(200, 160), rng=np.random.default_rng(number))
        write_rgb8(folder / "photos" / f"{number}.png", scene)
    write_rgb8(folder / "photo.jpg", scene[:60, :90])
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "200")
        patch.setenv("D2CSR_CACHE", str(folder / "cache"))
        for command in COMMANDS:
            call, _, printed_to = command.partition(" > ")
            code, said[command] = run(call)
            assert code == 0, f"{command}: {said[command]}"
            if printed_to:
                recipe = short_recipe(said[command]).replace("batch_size: 8", "batch_size: 2")
                (folder / printed_to).write_text(recipe)
    return folder, said


def test_the_page_goes_from_photographs_to_an_enlargement():
    verbs = [command.split()[1] for command in COMMANDS]
    assert verbs == ["simulate", "data", "train", "train", "evaluate", "upscale"]


def test_training_begins_with_the_weights_of_the_model(walked):
    """Three steps change the weights a little, and the network not at all."""
    shipped = read_bundle(find_bundle("photo-x2"))
    tuned = read_bundle(find_bundle(walked[0] / "runs/mine"))
    assert tuned.card.config == shipped.card.config
    assert tuned.weights_sha256 != shipped.weights_sha256
    assert [each.name for each in tuned.card.metadata.runs][-2:] == ["photo-x2", "fine-tuned"]


def test_the_evaluation_compares_the_model_before_and_after(walked):
    said = walked[1][COMMANDS[4]]
    scores = {
        name: float(re.search(rf"^{name} +(\d+\.\d+)", said, re.MULTILINE)[1])
        for name in ("bicubic", "photo-x2", "runs/mine")
    }
    assert abs(scores["runs/mine"] - scores["photo-x2"]) < 1
    assert scores["runs/mine"] != scores["bicubic"]


def test_the_photograph_is_enlarged_and_compared(walked):
    folder, _ = walked
    assert read_size(folder / "photo_x2.jpg") == Size(180, 120)
    assert read_size(folder / "photo_x2_compare.jpg").width == 2 * 180 + 8


def test_the_mixture_of_the_page_fits_into_the_recipe(tmp_path):
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    recipe = (ROOT / "experiments" / "fine_tune.yaml").read_text(encoding="utf-8")
    mixed = recipe.replace("data:\n  train: pairs\n", block)
    (tmp_path / "mixed.yaml").write_text(mixed)
    assert [each.share for each in read_recipe(tmp_path / "mixed.yaml").data.train] == [0.7, 0.3]
