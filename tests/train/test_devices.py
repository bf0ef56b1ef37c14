"""Two processes with half the batch each are one process with the whole."""

import subprocess
import sys

import pytest
import torch

from d2csr.checkpoint.load import read_file
from d2csr.train.start import train
from tests.train.conftest import recipe_values, write_recipe

STAGES = [
    {"kind": "divergence", "steps": 12, "learning_rate": 1e-3},
    {"kind": "joint", "steps": 8, "learning_rate": 1e-3},
]


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
