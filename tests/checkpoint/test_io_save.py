"""A kill at any moment of a save leaves a whole checkpoint to go on from."""

import os
import subprocess
import sys

import pytest
import torch

from d2csr.checkpoint.io import (
    MODEL_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    find_weights,
    last_checkpoint,
    load_network,
    options_json,
    save_checkpoint,
    save_weights,
)
from d2csr.core import files as module
from d2csr.core.config import ModelConfig
from d2csr.models.d2csr import D2CSR

SMALL = ModelConfig(scale=2, channels=4, groups=1, blocks=1, convergence_channels=3)
MOST_CALLS = 40


class KilledError(BaseException):
    """Stands for the death of the process: nothing catches it, no clean-up runs after it."""


def network(value):
    made = D2CSR(SMALL)
    for parameter in made.parameters():
        torch.nn.init.constant_(parameter, value)
    return made


def put(folder, value):
    tensors = {MODEL_FILE: network(value).state_dict(), OPTIMIZER_FILE: {"m": torch.zeros(3)}}
    save_checkpoint(folder, options=options_json(SMALL), tensors=tensors, state={"step": value})


def value_in(run):
    return load_network(run).divergence.head.bias[0].item()


def dying_at(monkeypatch, call):
    """Make the process die before its n-th step that touches the disk."""
    steps = iter(range(MOST_CALLS))

    def or_die(work):
        def step(*arguments, **choices):
            if next(steps) == call:
                raise KilledError
            return work(*arguments, **choices)

        return step

    for owner, name in (
        (module.Path, "write_bytes"),
        (module, "flush_to_disk"),
        (module.Path, "rename"),
        (module.Path, "mkdir"),
        (module.Path, "write_text"),
        (module.shutil, "rmtree"),
    ):
        monkeypatch.setattr(owner, name, or_die(getattr(owner, name)))
    return steps


def test_a_kill_at_any_step_leaves_the_old_best_or_the_new_one(tmp_path, monkeypatch):
    outcomes = set()
    for call in range(MOST_CALLS):
        run = tmp_path / str(call)
        put(run / "best", 1)
        with monkeypatch.context() as patch:
            steps = dying_at(patch, call)
            try:
                put(run / "best", 2)
            except KilledError:
                died = True
            else:
                died = False
        outcomes.add(value_in(run))
        assert find_weights(run).with_name(STATE_FILE).is_file()
        put(run / "best", 3)  # the next save finds its way over what the kill left
        assert value_in(run) == 3
        if not died:
            break
    assert outcomes == {1, 2}
    assert next(steps) > 8


def test_a_kill_while_a_new_step_is_saved_leaves_the_last_one(tmp_path, monkeypatch):
    for call in range(MOST_CALLS):
        run = tmp_path / str(call)
        put(run / "checkpoints" / "step-00000001", 1)
        with monkeypatch.context() as patch:
            dying_at(patch, call)
            try:
                put(run / "checkpoints" / "step-00000002", 2)
            except KilledError:
                pass
            else:
                break
        newest = last_checkpoint(run)
        assert {path.name for path in newest.iterdir()} == {MODEL_FILE, OPTIMIZER_FILE, STATE_FILE}
        assert value_in(run) == int(newest.name[-1])


def test_what_a_kill_left_is_gone_after_the_next_save(tmp_path):
    """A folder of a process that is gone, half-written, and the former one it had moved aside."""
    code = "import sys; from pathlib import Path; from d2csr.core.files import atomic_folder; "
    code += "import os; folder = atomic_folder(Path(sys.argv[1])); path = folder.__enter__(); "
    code += "(path / 'half').write_text(''); os._exit(9)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "best"], check=False)
    assert done.returncode == 9
    assert len(list(tmp_path.glob(".*/half"))) == 1
    (tmp_path / ".best.old").mkdir()
    put(tmp_path / "best", 1)
    put(tmp_path / "best", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_failed_save_of_weights_leaves_the_old_file(tmp_path, monkeypatch):
    save_weights(network(1), tmp_path / MODEL_FILE)

    def full(path, data):
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(module.Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        save_weights(network(2), tmp_path / MODEL_FILE)
    assert value_in(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == [MODEL_FILE]


SAVER = """
import sys, torch
from pathlib import Path
from d2csr.checkpoint.io import options_json, save_checkpoint
from d2csr.core.config import ModelConfig
config = ModelConfig(scale=2, channels=4, groups=1, blocks=1, convergence_channels=3)
from d2csr.models.d2csr import D2CSR
tensors = {"model.safetensors": D2CSR(config).state_dict(),
           "optimizer.safetensors": {"m": torch.zeros(300_000)}}
print("ready", flush=True)
while True:
    save_checkpoint(
        Path(sys.argv[1]) / "best",
        options=options_json(config), tensors=tensors, state={"step": 1},
    )
"""


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_kill_9_while_saving_leaves_a_checkpoint_that_loads(tmp_path):
    put(tmp_path / "best", 1)
    with subprocess.Popen(
        [sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE
    ) as p:
        assert p.stdout.readline() == b"ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            p.wait(0.03)
        p.kill()
    assert load_network(tmp_path).config == SMALL
