"""What a run tells while it trains: log lines, TensorBoard, a progress bar, validations.

Validation while training: the averaged network on whole images, protocol `y`.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from d2csr.core.config import ModelConfig
from d2csr.core.files import write_atomically
from d2csr.core.manifest import Manifest
from d2csr.data.pairs import load_pair
from d2csr.metrics.protocols import score
from d2csr.models.d2csr import D2CSR, D2CSROutput
from d2csr.training.trainer import EMA, Trainer

PROTOCOL = "y"


class Validator:
    """The validation pairs, decoded once, and a network to put averaged weights into."""

    def __init__(self, manifest: Manifest, config: ModelConfig, *, device: torch.device) -> None:
        """Decode the pairs; the configuration is the finished model's."""
        self.scale = manifest.scale
        self.pairs = [load_pair(pair, scale=manifest.scale) for pair in manifest.pairs]
        self.device = device
        self.network = D2CSR(config).to(device).eval()

    def psnr_db(self, average: EMA) -> tuple[float, list[float]]:
        """Return the mean PSNR of the fused images, and of each leaf's predictions."""
        self.network.load_state_dict(average.tensors)
        rows = [self._scores(lr, hr) for lr, hr in self.pairs]
        sr, *leaves = (math.fsum(column) / len(rows) for column in zip(*rows, strict=True))
        return sr, leaves

    def output(self, lr: np.ndarray) -> D2CSROutput:
        """Return what the network says of one 8-bit RGB image."""
        image = torch.tensor(lr, device=self.device).permute(2, 0, 1).unsqueeze(0).float() / 255
        with torch.inference_mode():
            return self.network(image.contiguous(memory_format=torch.channels_last))

    def _scores(self, lr: np.ndarray, hr: np.ndarray) -> list[float]:
        output = self.output(lr)
        images = [output.sr[0], *output.predictions[0]]
        arrays = [image.permute(1, 2, 0).float().cpu().numpy() for image in images]
        return [score(sr, hr, protocol=PROTOCOL, scale=self.scale).psnr_db for sr in arrays]


LOG = "log.jsonl"


class TrainingMonitor:
    """Follows a run; on every process but the first it stays silent."""

    def __init__(self, run: Trainer, validator: Validator | None, *, console: Console) -> None:
        """Open the log, cut back to what the run's checkpoint knows, and TensorBoard."""
        self.run, self.validator, self.console = run, validator, console
        self._log = _reopened(run.folder / LOG, run.step)
        self._board = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.step)
        self._since = (time.monotonic(), run.step)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps {task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(
            run.stage.kind, total=run.recipe.steps, completed=run.step, rate=""
        )

    def __enter__(self) -> "TrainingMonitor":
        """Show the progress bar."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Close bar, log and TensorBoard."""
        self._progress.stop()
        self._log.close()
        self._board.close()

    def after_step(self, row: Mapping[str, float]) -> None:
        """Note a step that is done; `row` holds its losses and rate."""
        step, pace = self.run.step, self.run.recipe.intervals
        self._progress.update(self._task, completed=step, description=self.run.stage.kind)
        if step % pace.log == 0:
            self._note_speed(row)
        if self.validator is not None and self._due(pace.validate_every):
            self._validate(self.validator)
        if self.validator is not None and pace.images and self._due(pace.images):
            self._show(self.validator)

    def _due(self, every: int) -> bool:
        return self.run.step % every == 0 or self.run.step == self.run.recipe.steps

    def _note_speed(self, row: Mapping[str, float]) -> None:
        now, before = time.monotonic(), self._since
        rate = (self.run.step - before[1]) / max(now - before[0], 1e-9)
        self._since = (now, self.run.step)
        self._progress.update(self._task, rate=f"{rate:.2f} step/s")
        self._write({**row, "steps_per_s": round(rate, 3)})

    def _validate(self, validator: Validator) -> None:
        """Log the averaged network's figures, and keep it if they are the best so far.

        A network still in its divergence stage has no trained fusion: its best leaf is shown, but
        only stages that train the fusion compete for `best`.
        """
        sr, leaves = validator.psnr_db(self.run.average)
        fuses = self.run.stage.kind != "divergence"
        best = fuses and sr > self.run.best.psnr_db
        if best:
            self.run.save_best(sr)
        row = {"val_psnr_db": sr, "val_best_leaf_psnr_db": max(leaves)}
        self._write({**row, "val_worst_leaf_psnr_db": min(leaves), "protocol": PROTOCOL})
        note = " (best so far)" if best else ""
        self.console.print(
            f"step {self.run.step}: validation (protocol {PROTOCOL}) {sr:.3f} dB, leaves "
            f"{min(leaves):.3f} to {max(leaves):.3f} dB{note}",
            soft_wrap=True,
        )
        self._since = (time.monotonic(), self.run.step)

    def _show(self, validator: Validator) -> None:
        """Put SR, predictions and weights of the first validation image into TensorBoard."""
        output = validator.output(validator.pairs[0][0])
        for name, images in (("sr", output.sr), ("prediction", output.predictions[0])):
            for index, image in enumerate(images):
                clipped = image.clamp(0, 1).cpu()
                self._board.add_image(f"{name}/{index}", clipped, self.run.step)
        for index, weights in enumerate(output.weights[0]):
            self._board.add_image(f"weight/{index}", weights.unsqueeze(0).cpu(), self.run.step)

    def _write(self, row: Mapping[str, float | str]) -> None:
        step = self.run.step
        line = {"step": step, "stage": self.run.stage.kind, **row}
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()
        for name, value in row.items():
            if not isinstance(value, str) and math.isfinite(value):
                self._board.add_scalar(name, value, step)


def _reopened(path: Path, step: int) -> TextIO:
    """Return the log open for more lines, without those of steps that will be done again."""
    if path.is_file():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        kept = [line for line in lines if _step_of(line) <= step]
        write_atomically(path, "".join(f"{line}\n" for line in kept).encode())
    return path.open("a", encoding="utf-8")


def _step_of(line: str) -> float:
    """Return a log line's step; of a line torn by a kill, infinity."""
    try:
        return float(json.loads(line)["step"])
    except json.JSONDecodeError:
        return math.inf
