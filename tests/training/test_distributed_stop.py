"""What a user sees of a run that is stopped from outside, and of one that runs through."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import d2csr
from d2csr.checkpoint.io import last_checkpoint, load_network, read_state
from d2csr.images.reader import read_rgb8
from tests.training.conftest import recipe_values, write_pairs, write_recipe

D2CSR = [sys.executable, "-m", "d2csr"]


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_run_asked_to_stop_saves_and_can_be_resumed(tmp_path, pairs, devices, number):
    stages = [{"kind": "joint", "steps": 100_000, "learning_rate": 1e-3}]
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs, stages=stages))
    command = [*D2CSR, "train", str(recipe), "--output", str(tmp_path / "run")]
    command += ["--devices", str(devices)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.jsonl"
    while process.poll() is None and not (log.is_file() and log.read_text().count("\n") > 3):
        time.sleep(0.05)
    process.send_signal(number)  # to the first process alone
    _, output = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert output.count("stopped and saved at step") == 1
    assert "Traceback" not in output
    folder = last_checkpoint(tmp_path / "run")
    assert folder is not None
    step = read_state(folder)["step"]
    assert 3 < step < 100_000
    load_network(tmp_path / "run")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -15), (signal.SIGINT, 130)])
def test_processes_stopped_before_training_end_as_one_does(tmp_path, pairs, number, code):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    command = [*D2CSR, "train", str(recipe), "--output", str(tmp_path / "run"), "--devices", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (tmp_path / "run" / "recipe.yaml").is_file():
        time.sleep(0.02)
    time.sleep(0.5)  # its processes are being started
    process.send_signal(number)
    _, output = process.communicate(timeout=120)
    assert process.returncode == code, output


def test_pairs_to_enlarged_photograph_from_end_to_end(tmp_path):
    """Train, evaluate and upscale by the commands, on generated pairs."""
    write_pairs(tmp_path / "train", 6, seed=1)
    val = write_pairs(tmp_path / "val", 2, seed=2)
    stages = [
        {"kind": "divergence", "steps": 60, "learning_rate": 3e-3},
        {"kind": "convergence", "steps": 20, "learning_rate": 3e-3},
        {"kind": "joint", "steps": 40, "learning_rate": 3e-3, "schedule": "cosine"},
    ]
    values = recipe_values(tmp_path / "train", stages=stages)
    values |= {"intervals": {"validation": 40, "log": 20, "images": 40}, "precision": "auto"}
    recipe = write_recipe(tmp_path / "r.yaml", values)

    def run(*words):
        done = subprocess.run([*D2CSR, *words], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout

    places = ["--output", str(tmp_path / "run"), "--validate-on", str(val)]
    assert "bicubic" in run("train", str(recipe), *places)
    scores = tmp_path / "scores.json"
    model = str(tmp_path / "run")
    run("evaluate", "-n", model, "--data", str(val), "--json", str(scores))
    mean = {
        row["model"]: row["mean"]["psnr_db"] for row in json.loads(scores.read_text())["results"]
    }
    assert mean[model] > mean["bicubic"]
    lr = val / "s0_LR2.png"
    run("upscale", "-i", str(lr), "-o", str(tmp_path / "out"), "-n", model)
    (sr,) = (tmp_path / "out").rglob("*.png")
    np.testing.assert_array_equal(read_rgb8(sr), d2csr.load(model).upscale(read_rgb8(lr)))
