"""Compiled training: the same weights, and none of it where there is no compiler."""

import shutil
import subprocess
import sys
from io import StringIO

import pytest
import torch
from rich.console import Console

from d2csr.checkpoint.io import read_file
from d2csr.core.config import ModelConfig
from d2csr.models.d2csr import D2CSR
from d2csr.training.networks import compile_network
from d2csr.training.train import train
from tests.training.conftest import recipe_values, write_recipe

# the least that has every kind of part: each costs the compiler seconds
MODEL = {
    "scale": 2,
    "channels": 4,
    "depth": 1,
    "groups": 1,
    "blocks": 1,
    "convergence_channels": 4,
    "base": "bicubic",
}
STAGES = [{"kind": "convergence", "steps": 1, "learning_rate": 1e-3}]


def weights(run):
    return read_file(run / "checkpoints" / "step-00000001" / "model.safetensors")[0]


@pytest.fixture
def plain(tmp_path, pairs):
    recipe = write_recipe(tmp_path / "plain.yaml", recipe_values(pairs, stages=STAGES, model=MODEL))
    train(recipe, output=tmp_path / "plain")
    return weights(tmp_path / "plain")


def _train_compiled(tmp_path, pairs):
    """Train by the command, in a process of its own, as hooks that check shapes can't be traced."""
    values = recipe_values(pairs, stages=STAGES, compile=True, model=MODEL)
    recipe = write_recipe(tmp_path / "compiled.yaml", values)
    command = [
        sys.executable,
        "-m",
        "d2csr",
        "train",
        str(recipe),
        "--output",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++) to compile with")
def test_compiled_training_reaches_the_same_weights(tmp_path, pairs, plain):
    output = _train_compiled(tmp_path, pairs)
    assert "uncompiled" not in output
    compiled = weights(tmp_path / "run")
    assert max(float((plain[name] - compiled[name]).abs().max()) for name in plain) < 1e-4


def test_without_a_compiler_training_continues_after_one_line_about_it(
    tmp_path, pairs, plain, monkeypatch
):
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    output = _train_compiled(tmp_path, pairs)
    lines = [line for line in output.splitlines() if "uncompiled" in line]
    assert len(lines) == 1
    assert "install g++" in lines[0]
    assert "Traceback" not in output
    same = weights(tmp_path / "run")
    assert max(float((plain[name] - same[name]).abs().max()) for name in plain) < 1e-6


def test_a_compiler_error_without_a_message_is_reported_by_its_class(monkeypatch):
    def fail(value):
        raise RuntimeError

    monkeypatch.setattr(torch, "compile", lambda function: fail)
    printed = StringIO()
    network = D2CSR(ModelConfig(**MODEL))
    compile_network(network, device=torch.device("cpu"), console=Console(file=printed))
    assert "no effect here (RuntimeError); training continues uncompiled" in printed.getvalue()
