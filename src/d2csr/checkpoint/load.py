"""Networks and checkpoints read back from safetensors; no pickle is ever loaded."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from d2csr.checkpoint.save import EMA, MODEL, STATE, retired
from d2csr.checkpoint.sizes import METADATA_KEY, config_from_shapes
from d2csr.core.bundle import CARD_NAME, read_bundle
from d2csr.core.config import ModelConfig
from d2csr.core.errors import CheckpointError
from d2csr.models.d2csr import D2CSR

CHECKPOINTS = "checkpoints"  # of a run: one folder a checkpoint, `step-00001234`
BEST = "best"  # of a run: the checkpoint with the highest validation figure
BUNDLE = "bundle"  # of a run: what its end exported


def load_network(folder: Path | str) -> D2CSR:
    """Return the network in a bundle, a checkpoint or a run, ready to predict.

    Args:
        folder: of a run its bundle counts, or else its best checkpoint, or else its last one; of a
            checkpoint the averaged weights, where it has them.

    Raises:
        CheckpointError: no weights there, or not those of a D2C-SR network.
    """
    return load_weights(find_weights(Path(folder)))


def load_weights(path: Path) -> D2CSR:
    """Return the network that a weights file holds, its sizes read from names and shapes.

    Raises:
        CheckpointError: missing, damaged, or not a D2C-SR network's.
    """
    tensors, config = read_tensors(path)
    network = D2CSR(config)
    network.load_state_dict(tensors)
    return network.eval()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], ModelConfig]:
    """Return a weights file's tensors and the configuration they tell."""
    tensors, options = read_file(path)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    return tensors, config_from_shapes(shapes, options, where=path)


def read_file(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Return every tensor of a safetensors file and the options in its metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            options = (file.metadata() or {}).get(METADATA_KEY)
            return {name: file.get_tensor(name) for name in file.keys()}, options  # noqa: SIM118
    except (OSError, SafetensorError) as fault:
        problem = f"it is no readable safetensors file ({fault})"
        raise CheckpointError(path, problem, remedy="Check the path, or copy it again.") from fault


def read_state(folder: Path) -> dict[str, Any]:
    """Return the plain values of a checkpoint folder."""
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        problem = f"its {STATE} is missing or damaged ({fault})"
        raise CheckpointError(folder, problem, remedy="Resume from another checkpoint.") from fault


def trained_steps(folder: Path) -> int:
    """Return the steps behind the weights that `load_network` reads there; 0 where nobody says.

    Raises:
        CheckpointError: there are none.
        BundleError: the bundle they lie in is damaged.
    """
    place = find_weights(folder).parent
    if (place / CARD_NAME).is_file():
        return read_bundle(place).card.facts.steps or 0
    if not (place / STATE).is_file():
        return 0
    state = read_state(place)
    return state.get("earlier_steps", 0) + state["step"]


def last_checkpoint(run: Path) -> Path | None:
    """Return a run's newest checkpoint folder, or None where it has none."""
    folders = sorted((run / CHECKPOINTS).glob("step-*"))
    return folders[-1] if folders else None


def find_weights(folder: Path) -> Path:
    """Return the weights file that a bundle, checkpoint or run stands for."""
    if folder.is_file():
        return folder
    best = folder / BEST  # a kill may have struck while a better one took its name
    places = [folder, folder / BUNDLE, best, retired(best), last_checkpoint(folder)]
    for place in places:
        for name in (EMA, MODEL):
            if place is not None and (place / name).is_file():
                return place / name
    problem = f"no {MODEL} in it, nor in its {BUNDLE}, {BEST} or {CHECKPOINTS}"
    remedy = "Give a bundle, a checkpoint or a run folder."
    raise CheckpointError(folder, problem, remedy=remedy)
