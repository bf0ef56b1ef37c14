"""Images that training shows in TensorBoard."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from d2csr.data.sources import open_pairs
from d2csr.training.loop import fit
from d2csr.training.monitor import TrainingMonitor, Validator
from d2csr.training.networks import build_network
from d2csr.training.recipe import Recipe
from tests.tiny_systems import TINY
from tests.training.conftest import recipe_values
from tests.training.test_train_resume import make_run


@pytest.mark.parametrize(("name", "kind"), [("srflow", "likelihood"), ("edsr", "network")])
def test_a_flow_shows_a_sample_at_the_recipes_temperature_and_seed(
    tmp_path, pairs, validation, name, kind
):
    """It equals that of the averaged network; other networks draw none."""
    values = recipe_values(pairs, model={"system": name, "scale": 2, **TINY[name]}, seed=7)
    values["loss"] = {"likelihood": {"temperature": 0.4}}
    values["stages"] = [{"kind": kind, "steps": 1, "learning_rate": 1e-3}]
    values["intervals"] = {"images": 1}
    recipe = Recipe.model_validate(values)
    trainer, loader = make_run(recipe, tmp_path / "run")
    (tmp_path / "run").mkdir()
    network = build_network(recipe.model)
    validator = Validator(open_pairs(validation, scale=2), network, device=torch.device("cpu"))
    with TrainingMonitor(trainer, validator, console=Console(quiet=True)) as monitor:
        assert fit(trainer, loader, callback=monitor)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert ("sample/0" in events.Tags()["images"]) == (name == "srflow")
    if name == "srflow":
        (event,) = events.Images("sample/0")
        shown = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)), np.float32)
        lr = torch.tensor(validator.pairs[0][0]).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            drawn = trainer.average.module.eval().sample(lr, temperature=0.4, seed=7)[0]
        expected = drawn.clamp(0, 1).permute(1, 2, 0).numpy() * 255
        assert np.abs(shown - expected).max() <= 1
