"""Two processes with half the batch each are one with the whole; they fail and stop as one."""

import json
import subprocess
import sys

import pytest
import torch

from d2csr.checkpoint.io import read_file
from d2csr.core.errors import DataError, TrainingError, UsageError
from d2csr.training import distributed
from d2csr.training.distributed import DistributedContext, launch
from d2csr.training.loop import fit
from d2csr.training.networks import initial_network
from d2csr.training.preflight import TrainJob, make_loader, prepare, prepare_sources
from d2csr.training.train import train
from d2csr.training.trainer import Trainer, make_trainer
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
    train(recipe, output=tmp_path / "one")
    command = [
        sys.executable,
        "-m",
        "d2csr",
        "train",
        str(recipe),
        "--output",
        str(tmp_path / "two"),
    ]
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


def _train_with_a_spoiled_gradient(devices, job):
    """Train; the second process's first gradient is infinite, while every loss stays finite."""
    network = initial_network(job.recipe)
    if devices.rank == 1:
        network.divergence.head.bias.register_hook(lambda gradient: gradient * torch.inf)
    trainer = Trainer(job.recipe, job.folder, network=network, devices=devices, precision="fp32")
    fit(trainer, make_loader(job, devices=devices), callback=None)


def test_a_gradient_that_is_not_finite_names_the_files_of_its_process(tmp_path, pairs):
    recipe = tiny_recipe(pairs, seed=1)
    job = prepare(recipe, tmp_path / "run", resume=False)
    sampler = make_loader(job, devices=DistributedContext(torch.device("cpu"))).sampler
    names = ", ".join(sampler.batch(0, rank=1, world_size=2).names)
    assert names != ", ".join(sampler.batch(0, rank=0, world_size=2).names)
    with pytest.raises(TrainingError) as caught:
        launch(_train_with_a_spoiled_gradient, lambda: job, devices=2)
    assert caught.value.problem == f"the gradients of step 0 are not finite, batch: {names}"


def _resume_in_a_folder_per_process(devices, job):
    make_trainer(job.recipe, job.folder / str(devices.rank), devices=devices)


def test_processes_that_resume_at_different_steps_are_refused(tmp_path, pairs):
    """As when `--output` is another folder on every machine."""
    values = recipe_values(pairs)
    train(write_recipe(tmp_path / "r.yaml", values), output=tmp_path / "0")
    recipe = tiny_recipe(pairs)
    job = TrainJob(recipe, tmp_path, prepare_sources(recipe), validation=None, resume=True)
    with pytest.raises(UsageError, match=r"different steps: 4, 0\. --output must be .* share"):
        launch(_resume_in_a_folder_per_process, lambda: job, devices=2)


def test_an_error_in_a_process_is_one_line_and_exit_2(tmp_path, pairs):
    stages = [{"kind": "joint", "steps": 9, "learning_rate": 1e30}]
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs, stages=stages))
    command = [sys.executable, "-m", "d2csr", "train", str(recipe), "--devices", "2"]
    command += ["--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "of step 1 " in done.stderr.splitlines()[-1]


class _SecondOfTwo(DistributedContext):
    """The second process of a machine, whose first one has sent `sent`."""

    sent = (True, "job")

    def all_gather(self, value):
        return [self.sent, value]


def test_under_torchrun_the_first_process_of_a_machine_prepares_for_the_others(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    second = _SecondOfTwo(torch.device("cpu"), 1, 2)
    assert distributed._prepare_once(second, lambda: pytest.fail("prepared twice")) == "job"
    monkeypatch.setattr(_SecondOfTwo, "sent", (True, DataError("a", "is missing", "Add it.")))
    with pytest.raises(DataError, match="is missing"):
        distributed._prepare_once(second, lambda: "job")
