"""Two processes with half the batch each are one with the whole; they fail and stop as one."""

import json
import subprocess
import sys

import pytest
import torch

from d2csr.checkpoint.io import read_file
from d2csr.core.errors import TrainingError, UsageError
from d2csr.training.distributed import DistributedContext, ProcessTask, launch
from d2csr.training.loop import fit
from d2csr.training.preflight import initial_network, load_valid_pairs, make_loader, make_run
from d2csr.training.train import train
from d2csr.training.trainer import Trainer
from tests.training.conftest import recipe_values, tiny_recipe, write_recipe

STAGES = [
    {"kind": "divergence", "steps": 12, "learning_rate": 1e-3},
    {"kind": "joint", "steps": 8, "learning_rate": 1e-3},
]


def losses(run):
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows]


def weights(run):
    return read_file(run / "checkpoints" / "step-00000020" / "model.safetensors")[0]


@pytest.mark.parametrize("launcher", ["--devices", "torchrun"])
def test_two_gloo_processes_reach_the_single_ones_weights(tmp_path, pairs, launcher):
    values = recipe_values(pairs, stages=STAGES, precision="fp64")
    recipe = write_recipe(tmp_path / "r.yaml", values)
    train(recipe, out=tmp_path / "one")
    command = [sys.executable, "-m", "d2csr", "train", str(recipe), "--out", str(tmp_path / "two")]
    if launcher == "--devices":
        command += ["--devices", "2"]
    else:
        torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
        command[1:1] = torchrun
        command[command.index("-m", 4) : command.index("-m", 4) + 2] = ["-m", "d2csr"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    assert next(iter(one.values())).dtype == torch.float64
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-6)


def _train_with_a_spoiled_gradient(devices, recipe, folder):
    """Train; the second process's first gradient is infinite, while every loss stays finite."""
    network = initial_network(recipe)
    if devices.rank == 1:
        network.divergence.head.bias.register_hook(lambda gradient: gradient * torch.inf)
    run = Trainer(recipe, folder, network=network, devices=devices, precision="fp32")
    pairs = load_valid_pairs(recipe.data.train, scale=2, patch_px=12, split="train")
    fit(run, make_loader(recipe, pairs, devices=devices), watch=None)


def test_a_gradient_that_is_no_number_names_the_files_of_its_own_process(tmp_path, pairs):
    recipe = tiny_recipe(pairs, seed=1)
    manifest = load_valid_pairs(str(pairs), scale=2, patch_px=12, split="train")
    sampler = make_loader(recipe, manifest, devices=DistributedContext(torch.device("cpu"))).sampler
    guilty = ", ".join(sampler.batch(0, rank=1, world=2).names)
    assert guilty != ", ".join(sampler.batch(0, rank=0, world=2).names)
    order = ProcessTask(_train_with_a_spoiled_gradient, (recipe, tmp_path / "run"))
    with pytest.raises(TrainingError) as caught:
        launch(order, 2)
    assert caught.value.problem == f"the gradients of step 0 are not finite, batch: {guilty}"


def _stand_in_a_folder_of_ones_own(devices, recipe, folder):
    make_run(recipe, folder / str(devices.rank), devices=devices)


def test_processes_that_resume_at_different_steps_are_refused(tmp_path, pairs):
    """As when `--out` is a folder of its own on every machine."""
    values = recipe_values(pairs)
    train(write_recipe(tmp_path / "r.yaml", values), out=tmp_path / "0")
    order = ProcessTask(_stand_in_a_folder_of_ones_own, (tiny_recipe(pairs), tmp_path))
    with pytest.raises(UsageError, match=r"different steps: 4, 0\. --out must be .* share"):
        launch(order, 2)


def test_a_error_in_a_process_is_one_line_and_exit_2(tmp_path, pairs):
    stages = [{"kind": "joint", "steps": 9, "learning_rate": 1e30}]
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs, stages=stages))
    command = [sys.executable, "-m", "d2csr", "train", str(recipe), "--devices", "2"]
    command += ["--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "of step 1 " in done.stderr.splitlines()[-1]
