"""The state of a training run: network, average, optimizer and step, saved and resumed as one."""

import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from d2csr.checkpoint.io import (
    BEST,
    CHECKPOINTS,
    DISCRIMINATOR_FILE,
    EMA_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    last_checkpoint,
    read_file,
    read_state,
    save_checkpoint,
    trained_steps,
)
from d2csr.core.errors import CheckpointError, UsageError
from d2csr.models.systems import SystemModel
from d2csr.training.distributed import DistributedContext, Precision, resolve_precision
from d2csr.training.networks import (
    Network,
    build_network,
    initial_network,
    make_adversary,
    weights_options,
)
from d2csr.training.optim import make_optimizer, optimizer_tensors, restore_optimizer
from d2csr.training.recipe import Recipe, StageConfig, find_initial_weights
from d2csr.training.stages import Adversary, trained_parameters


def make_average(network: nn.Module, decay: float) -> AveragedModel:
    """Return the exponential moving average of a network's weights; decay 0 follows them exactly.

    The first updates move faster: after n of them, the decay is at most (1 + n) / (10 + n).
    """

    def update(  # noqa: PLR0917 - torch calls it so
        averages: Sequence[Tensor], weights: Sequence[Tensor], counted: Tensor | int
    ) -> None:
        share = 1 - min(decay, int(counted) / (int(counted) + 9))
        for tensor, weight in zip(averages, weights, strict=True):
            tensor.lerp_(weight, share)

    average = AveragedModel(network, multi_avg_fn=update)
    count_updates(average, 0)
    return average


def count_updates(average: AveragedModel, updates: int) -> None:
    """Set the number of updates behind an average; the weights it began with count as one more."""
    average.n_averaged.fill_(updates + 1)


@dataclass
class Best:
    """The best validation so far."""

    step: int = -1
    psnr_db: float = float("-inf")


class Trainer:
    """Everything that changes during a run, and the recipe that doesn't."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        network: Network,
        devices: DistributedContext,
        precision: Precision,
    ) -> None:
        """Begin at step 0 with the network's weights."""
        self.recipe, self.folder = recipe, folder
        self.devices = devices
        self.precision: Precision = precision
        self.network = network
        self.average = make_average(network, recipe.optimizer.ema_decay)
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
        """Return the parameters that the stage trains."""
        return [parameter for _, parameter in self._named]

    @property
    def is_finished(self) -> bool:
        """Return whether all steps of the recipe are done."""
        return self.step >= self.recipe.steps

    @property
    def is_stage_finished(self) -> bool:
        """Return whether all steps of the current stage are done."""
        return self.stage_step == self.stage.steps

    def is_logged(self, step: int) -> bool:
        """Return whether the log has a line of a step, counted from 1."""
        return step % self.recipe.intervals.log == 0 or step == self.recipe.steps

    def start_next_stage(self) -> None:
        """Enter the next stage, from the averaged weights of the last one."""
        self.network.load_state_dict(self.average.module.state_dict())
        self._enter_stage()

    def save(self) -> Path:
        """Write a checkpoint of the current step, and remove the oldest beyond those to keep."""
        folder = self.folder / CHECKPOINTS / f"step-{self.step:08d}"
        tensors = {
            MODEL_FILE: self.network.state_dict(),
            EMA_FILE: self.average.module.state_dict(),
            OPTIMIZER_FILE: optimizer_tensors(self.optimizer, self._named),
        }
        if self.adversary is not None:
            tensors[DISCRIMINATOR_FILE] = self.adversary.discriminator.state_dict()
        self._write(folder, tensors, network=self.network)
        kept = self.recipe.intervals.keep_checkpoints
        for old in sorted(folder.parent.glob("step-*"))[:-kept]:
            shutil.rmtree(old)
        return folder

    def save_best(self, psnr_db: float) -> None:
        """Save the averaged weights as the best of the run."""
        self.best = Best(self.step, psnr_db)
        tensors = {MODEL_FILE: self.average.module.state_dict()}
        network = build_network(self.recipe.inference_model())
        self._write(self.folder / BEST, tensors, network=network)

    def best_network(self) -> Network:
        """Return the network with the best weights; without validation, the averaged ones."""
        path = self.folder / BEST / MODEL_FILE
        tensors = read_file(path)[0] if path.is_file() else self.average.module.state_dict()
        network = build_network(self.recipe.inference_model())
        network.load_state_dict(tensors)
        return network.to("cpu", torch.float32).eval()

    def resume(self) -> bool:
        """Load the newest checkpoint, if there is one; return whether there was.

        Raises:
            CheckpointError: damaged, or trained in another precision than this run computes in.
        """
        folder = last_checkpoint(self.folder)
        if folder is None:
            return False
        state = read_state(folder)
        before = state.get("precision", self.precision)  # missing in the oldest checkpoints
        if before != self.precision:
            problem = f"the run was trained in {before}, and precision here is {self.precision}"
            remedy = f"Resume on a machine where it is {before}, or begin a new run."
            raise CheckpointError(folder, problem, remedy=remedy)
        self.step = state["step"]
        self.earlier_steps = state.get("earlier_steps", self.earlier_steps)
        self.best = Best(**state["best"])
        self.network.load_state_dict(read_file(folder / MODEL_FILE)[0])
        self.average.module.load_state_dict(read_file(folder / EMA_FILE)[0])
        count_updates(self.average, self.step)
        self._enter_stage()
        if self._stage != state.get("stage", self._stage):  # added after the last one had ended
            self.network.load_state_dict(self.average.module.state_dict())
        if self.stage_step:
            saved, _ = read_file(folder / OPTIMIZER_FILE)
            restore_optimizer(self.optimizer, self._named, tensors=saved)
            if self.adversary is not None:
                saved, _ = read_file(folder / DISCRIMINATOR_FILE)
                self.adversary.discriminator.load_state_dict(saved)
        return True

    def _enter_stage(self) -> None:
        """Find the stage of the next step (past the end: the last one); its optimizer is new."""
        start = 0
        for index, stage in enumerate(self.recipe.stages):
            self._stage, self._stage_start = index, start
            start += stage.steps
            if self.step < start:
                break
        self._named = trained_parameters(self.network, self.stage.kind)
        self.adversary: Adversary | None = None
        if self.stage.kind == "adversarial":
            self.adversary = make_adversary(self.recipe, self.devices.device)
            judge = self.adversary.discriminator.named_parameters(prefix="discriminator")
            self._named += list(judge)
        self.optimizer = make_optimizer(self._named, self.recipe.optimizer)

    def _write(
        self, folder: Path, tensors: dict[str, dict[str, Tensor]], *, network: Network
    ) -> None:
        state = {
            "step": self.step,
            "earlier_steps": self.earlier_steps,
            "stage": self._stage,
            "best": vars(self.best),
            "versions": {name: version(name) for name in ("d2csr", "torch")},
            "machine": describe_device(self.devices.device),
            "precision": self.precision,
        }
        save_checkpoint(folder, options=weights_options(network), tensors=tensors, state=state)


def make_trainer(recipe: Recipe, folder: Path, *, devices: DistributedContext) -> Trainer:
    """Return the run at its newest checkpoint, or at step 0.

    Raises:
        CheckpointError: the checkpoint is damaged or of another precision, or the initial weights
            are of another network.
        UsageError: not all processes find the same checkpoint.
    """
    asked = recipe.precision
    if asked == "auto" and isinstance(recipe.model, SystemModel):
        asked = "fp32"  # outputs of 0..255, determinants and statistics lose too much in bf16
    precision = resolve_precision(asked, devices.device)
    network = initial_network(recipe).to(devices.device)
    network.to(torch.float64 if precision == "fp64" else torch.float32)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - not stubbed
    trainer = Trainer(recipe, folder, network=network, devices=devices, precision=precision)
    if recipe.initial_weights is not None:
        trainer.earlier_steps = trained_steps(find_initial_weights(recipe.initial_weights))
    trainer.resume()
    steps = devices.all_gather(trainer.step)
    if len(set(steps)) > 1:
        problem = f"the processes resume at different steps: {', '.join(map(str, steps))}"
        remedy = "--output must be a folder that all machines share."
        raise UsageError(folder, problem, remedy=remedy)
    return trainer


def describe_device(device: torch.device) -> str:
    """Return the name of the hardware that the run computes on, for the card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()} processor, {threads} thread{'s' * (threads > 1)}"
