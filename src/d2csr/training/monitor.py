"""The monitor of a training run: log lines, TensorBoard, progress bar and validation.

Validation scores the averaged network on whole images, with protocol `y`.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from d2csr.checkpoint.io import find_weights
from d2csr.core.bundle import CARD_NAME, TrainingRun, read_bundle
from d2csr.core.errors import RecipeError
from d2csr.core.files import write_atomically
from d2csr.core.manifest import Manifest
from d2csr.data.pairs import load_pair
from d2csr.metrics.protocols import score
from d2csr.models.d2csr import D2CSROutput
from d2csr.models.networks.srflow import SRFlow
from d2csr.training.networks import Network, predict
from d2csr.training.recipe import (
    RECIPE_NAME,
    Recipe,
    read_recipe,
    stage_kinds,
    weights_path,
)
from d2csr.training.trainer import Trainer

PROTOCOL = "y"
LOG_NAME = "log.jsonl"  # in a run's folder


class Validator:
    """The validation pairs, decoded once, and the network that runs on them."""

    def __init__(self, manifest: Manifest, network: Network, *, device: torch.device) -> None:
        """Decode the pairs; the network is the finished model's, with any weights."""
        self.scale = manifest.scale
        self.pairs = [load_pair(pair, scale=manifest.scale) for pair in manifest.pairs]
        self.device = device
        self.network = network.to(device).eval()

    def load_weights(self, average: nn.Module) -> None:
        """Take the weights of an averaged network."""
        self.network.load_state_dict(average.state_dict())

    def mean_psnr_db(self) -> tuple[float, list[float]]:
        """Return the mean PSNR of the fused images, and that of each leaf's predictions."""
        rows = [self._psnr_db(lr, hr) for lr, hr in self.pairs]
        sr, *leaves = (math.fsum(column) / len(rows) for column in zip(*rows, strict=True))
        return sr, leaves

    def predict(self, lr: UInt8[np.ndarray, "h w 3"]) -> D2CSROutput:
        """Return the network's output for one 8-bit RGB image."""
        image = torch.tensor(lr, device=self.device).permute(2, 0, 1).unsqueeze(0).float() / 255
        with torch.inference_mode():
            return predict(self.network, image.contiguous(memory_format=torch.channels_last))

    def sample(
        self, lr: UInt8[np.ndarray, "h w 3"], *, temperature: float, seed: int
    ) -> Float[Tensor, "1 3 sh sw"] | None:
        """Return SR that a flow draws for one image, in 0..1; None of other networks."""
        if not isinstance(self.network, SRFlow):
            return None
        image = torch.tensor(lr, device=self.device).permute(2, 0, 1).unsqueeze(0).float() / 255
        with torch.inference_mode():
            return self.network.sample(image, temperature=temperature, seed=seed)

    def _psnr_db(
        self, lr: UInt8[np.ndarray, "h w 3"], hr: UInt8[np.ndarray, "sh sw 3"]
    ) -> list[float]:
        output = self.predict(lr)
        images = [output.sr[0], *output.predictions[0]]
        arrays = [image.permute(1, 2, 0).float().cpu().numpy() for image in images]
        return [score(sr, hr, protocol=PROTOCOL, scale=self.scale).psnr_db for sr in arrays]


class TrainingMonitor:
    """Follows a run step by step; a context manager that closes its log and progress bar."""

    def __init__(self, trainer: Trainer, validator: Validator | None, *, console: Console) -> None:
        """Open TensorBoard and the log, without the lines of steps that will be repeated."""
        self.trainer, self.validator, self.console = trainer, validator, console
        self._log = _reopen_log(trainer.folder / LOG_NAME, trainer.step)
        self._board = SummaryWriter(str(trainer.folder / "tensorboard"), purge_step=trainer.step)
        self._timed_from = (time.monotonic(), trainer.step)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps {task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(
            trainer.stage.kind, total=trainer.recipe.steps, completed=trainer.step, rate=""
        )

    def __enter__(self) -> "TrainingMonitor":
        """Show the progress bar."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Close progress bar, log and TensorBoard."""
        self._progress.stop()
        self._log.close()
        self._board.close()

    def after_step(self, metrics: Mapping[str, float]) -> None:
        """Log a finished step, and validate, at their intervals."""
        step, intervals = self.trainer.step, self.trainer.recipe.intervals
        self._progress.update(self._task, completed=step, description=self.trainer.stage.kind)
        if self.trainer.is_logged(step):
            self._log_step(metrics)
        if self.validator is None:
            return
        validates = self._is_due(intervals.validation)
        shows = intervals.images > 0 and self._is_due(intervals.images)
        if validates or shows:
            self.validator.load_weights(self.trainer.average.module)
        if validates:
            self._validate(self.validator)
        if shows:
            self._add_images(self.validator)

    def _is_due(self, interval: int) -> bool:
        return self.trainer.step % interval == 0 or self.trainer.is_finished

    def _log_step(self, metrics: Mapping[str, float]) -> None:
        """Log a step's metrics, and the speed since the last logged step."""
        now, (before, first_step) = time.monotonic(), self._timed_from
        rate = (self.trainer.step - first_step) / max(now - before, 1e-9)
        self._timed_from = (now, self.trainer.step)
        self._progress.update(self._task, rate=f"{rate:.2f} step/s")
        self._write({**metrics, "steps_per_s": round(rate, 3)})

    def _validate(self, validator: Validator) -> None:
        """Log the averaged network's PSNR, and save its weights if they are the best so far.

        In a divergence stage the convergence network isn't trained yet: the leaves are logged, but
        only stages that train it compete for the best weights.
        """
        sr, leaves = validator.mean_psnr_db()
        model, kind = self.trainer.recipe.model, self.trainer.stage.kind
        is_fusion_ready = kind != "divergence" or "convergence" not in stage_kinds(model)
        is_best = is_fusion_ready and sr > self.trainer.best.psnr_db
        if is_best:
            self.trainer.save_best(sr)
        row = {"val_psnr_db": sr, "val_best_leaf_psnr_db": max(leaves)}
        self._write({**row, "val_worst_leaf_psnr_db": min(leaves), "protocol": PROTOCOL})
        note = " (best so far)" if is_best else ""
        text = f"step {self.trainer.step}: validation (protocol {PROTOCOL}) {sr:.3f} dB"
        if len(leaves) > 1:
            text += f", leaves {min(leaves):.3f} to {max(leaves):.3f} dB"
        self.console.print(
            text + note,
            soft_wrap=True,
        )
        self._timed_from = (time.monotonic(), self.trainer.step)

    def _add_images(self, validator: Validator) -> None:
        """Add SR, predictions and weights of the first validation image to TensorBoard.

        Of a flow, a sample too.
        """
        step, recipe = self.trainer.step, self.trainer.recipe
        lr = validator.pairs[0][0]
        temperature = recipe.loss.likelihood.temperature
        if (sample := validator.sample(lr, temperature=temperature, seed=recipe.seed)) is not None:
            self._board.add_image("sample/0", sample[0].clamp(0, 1).cpu(), step)
        output = validator.predict(lr)
        for name, images in (("sr", output.sr), ("prediction", output.predictions[0])):
            for index, image in enumerate(images):
                self._board.add_image(f"{name}/{index}", image.clamp(0, 1).cpu(), step)
        for index, weights in enumerate(output.weights[0]):
            self._board.add_image(f"weight/{index}", weights.unsqueeze(0).cpu(), step)

    def _write(self, row: Mapping[str, float | str]) -> None:
        """Write one line of the log, and its finite numbers to TensorBoard."""
        step = self.trainer.step
        line = {"step": step, "stage": self.trainer.stage.kind, **row}
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()
        for name, value in row.items():
            if not isinstance(value, str) and math.isfinite(value):
                self._board.add_scalar(name, value, step)


def read_runs(folder: Path, *, after: tuple[Path, ...] = ()) -> tuple[TrainingRun, ...]:
    """Return the trainings behind a run's weights, in order, the run itself last.

    Args:
        folder: of the run.
        after: folders of the runs that began, directly or not, with its weights.

    Raises:
        RecipeError: the initial weights of these runs lead back to one of them.
    """
    recipe = read_recipe(folder / RECIPE_NAME)
    before = runs_before(recipe, folder, after=after)
    lines = (folder / LOG_NAME).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if _step_of(line) < math.inf]
    timed = [row for row in rows if "steps_per_s" in row]
    spans = np.diff([0, *(row["step"] for row in timed)])
    seconds = math.fsum(span / row["steps_per_s"] for span, row in zip(spans, timed, strict=True))
    curve = tuple((row["step"], row["val_psnr_db"]) for row in rows if "val_psnr_db" in row)
    steps = rows[-1]["step"] if rows else 0
    run = TrainingRun(recipe.name, steps, float(round(seconds)), curve)
    return (*before, run)


def runs_before(
    recipe: Recipe, folder: Path, *, after: tuple[Path, ...] = ()
) -> tuple[TrainingRun, ...]:
    """Return the trainings of the initial weights of a run, where they are known.

    Args:
        recipe: of the run.
        folder: of the run.
        after: folders of the runs that began, directly or not, with its weights.

    Raises:
        RecipeError: the initial weights lead back to the run, or to one of those after it.
    """
    if recipe.initial_weights is None:
        return ()
    first, chain = weights_path(recipe.initial_weights), (*after, folder.resolve())
    if first.resolve() in chain:
        circle = [*chain[chain.index(first.resolve()) :], first.resolve()]
        problem = f"the initial weights go in a circle: {' from '.join(map(str, circle))}"
        remedy = "Name a bundle or a checkpoint as initial_weights, not the run."
        raise RecipeError(folder / RECIPE_NAME, problem, remedy=remedy)
    if not first.exists():
        return ()  # an earlier run that is gone
    if (first / LOG_NAME).is_file():
        return read_runs(first, after=chain)
    card = find_weights(first).parent / CARD_NAME
    return read_bundle(card.parent).card.metadata.runs if card.is_file() else ()


def _reopen_log(path: Path, step: int) -> TextIO:
    """Return the log open for more lines, without those of steps that will be repeated."""
    if path.is_file():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        done = [line for line in lines if _step_of(line) <= step]
        write_atomically(path, "".join(f"{line}\n" for line in done).encode())
    return path.open("a", encoding="utf-8")


def _step_of(line: str) -> float:
    """Return the step of a log line; infinity for a line that a kill cut short."""
    try:
        return float(json.loads(line)["step"])
    except json.JSONDecodeError:
        return math.inf
