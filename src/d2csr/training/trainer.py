"""A run: network, average, optimizer and place in the recipe, saved and resumed as one.

An exponential moving average of the weights, which is what validation and bundles use.
"""

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from d2csr.checkpoint.io import (
    BEST,
    CHECKPOINTS,
    EMA_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    last_checkpoint,
    read_file,
    read_state,
    save_checkpoint,
)
from d2csr.core.config import ModelConfig
from d2csr.core.errors import CheckpointError
from d2csr.models.d2csr import D2CSR
from d2csr.training.distributed import DistributedContext, Precision
from d2csr.training.optim import make_optimizer, optimizer_tensors, restore_optimizer
from d2csr.training.recipe import Recipe, StageConfig
from d2csr.training.stages import trained_parameters


class EMA:
    """The averaged weights of a network."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Start from the network's weights; decay 0 follows them exactly."""
        self.decay = decay
        self.tensors = {name: value.clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network's weights; early steps, counted from 0, move faster."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        for name, value in network.state_dict().items():
            self.tensors[name].lerp_(value, 1 - decay)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over saved averages."""
        for name, value in self.tensors.items():
            value.copy_(tensors[name])


@dataclass
class Best:
    """The best validation so far."""

    step: int = -1
    psnr_db: float = float("-inf")


class Trainer:
    """Everything that changes while training, and the recipe that doesn't."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        network: D2CSR,
        devices: DistributedContext,
        precision: Precision,
    ) -> None:
        """Stand before step 0 with the network's weights."""
        self.recipe, self.folder = recipe, folder
        self.devices = devices
        self.precision: Precision = precision
        self.network = network
        self.average = EMA(network, recipe.optimizer.average)
        self.best = Best()
        self.step = 0
        self.earlier_steps = 0  # behind the weights it began with
        self._enter_stage()

    @property
    def stage(self) -> StageConfig:
        """Return the stage that the next step belongs to."""
        return self.recipe.stages[self._stage]

    @property
    def stage_step(self) -> int:
        """Return the next step's number within its stage, from 0."""
        return self.step - self._stage_start

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Return what the stage trains."""
        return [parameter for _, parameter in self._named]

    def stage_ends(self) -> bool:
        """Return whether all steps of the current stage are done."""
        return self.stage_step == self.stage.steps

    def next_stage(self) -> None:
        """Go on to the next stage, from the averaged weights of the last one."""
        self.network.load_state_dict(self.average.tensors)
        self._enter_stage()

    def save(self) -> Path:
        """Write a checkpoint of the current place, and drop the oldest beyond those kept."""
        folder = self.folder / CHECKPOINTS / f"step-{self.step:08d}"
        tensors = {
            MODEL_FILE: self.network.state_dict(),
            EMA_FILE: self.average.tensors,
            OPTIMIZER_FILE: optimizer_tensors(self.optimizer, self._named),
        }
        self._write(folder, tensors, config=self.network.config)
        for old in sorted(folder.parent.glob("step-*"))[: -self.recipe.intervals.keep]:
            shutil.rmtree(old)
        return folder

    def save_best(self, psnr_db: float) -> None:
        """Keep the averaged weights as the best of the run."""
        self.best = Best(self.step, psnr_db)
        config = self.recipe.finished_config()
        self._write(self.folder / BEST, {MODEL_FILE: self.average.tensors}, config=config)

    def resume(self) -> bool:
        """Take over the newest checkpoint, if there is one; return whether there was.

        Raises:
            CheckpointError: it was trained in another precision than this run computes in.
        """
        folder = last_checkpoint(self.folder)
        if folder is None:
            return False
        state = read_state(folder)
        before = state.get("precision", self.precision)  # the oldest checkpoints don't say
        if before != self.precision:
            problem = f"the run was trained in {before}, and precision here is {self.precision}"
            remedy = f"Resume on a machine where it is {before}, or begin a new run."
            raise CheckpointError(folder, problem, remedy=remedy)
        self.step = state["step"]
        self.earlier_steps = state.get("earlier_steps", self.earlier_steps)
        self.best = Best(**state["best"])
        tensors, _ = read_file(folder / MODEL_FILE)
        self.network.load_state_dict(tensors)
        average, _ = read_file(folder / EMA_FILE)
        self.average.load(average)
        self._enter_stage()
        if self.stage_step:
            saved, _ = read_file(folder / OPTIMIZER_FILE)
            restore_optimizer(self.optimizer, self._named, tensors=saved)
        return True

    def _enter_stage(self) -> None:
        """Find the stage of the next step (past the end: the last one); its optimizer is fresh."""
        start = 0
        for index, stage in enumerate(self.recipe.stages):
            self._stage, self._stage_start = index, start
            start += stage.steps
            if self.step < start:
                break
        self._named = trained_parameters(self.network, self.stage.kind)
        self.optimizer = make_optimizer(self._named, self.recipe.optimizer)

    def _write(
        self, folder: Path, tensors: dict[str, dict[str, torch.Tensor]], *, config: ModelConfig
    ) -> None:
        state = {
            "step": self.step,
            "earlier_steps": self.earlier_steps,
            "stage": self._stage,
            "best": vars(self.best),
            "versions": {name: version(name) for name in ("d2csr", "torch")},
            "machine": machine(self.devices.device),
            "precision": self.precision,
        }
        save_checkpoint(folder, config=config, tensors=tensors, state=state)


def machine(device: torch.device) -> str:
    """Return what the run computes on, for the card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} processor, {torch.get_num_threads()} threads"
