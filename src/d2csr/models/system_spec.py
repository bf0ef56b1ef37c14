"""The description of a compared system: its network, sizes and loss.

Beside them stands how its paper trains it, as far as paper or code tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from d2csr.core.config import SCALES
from d2csr.models.networks.base import Sizes, SystemNetwork


@dataclass(frozen=True)
class PaperTraining:
    """The training of a paper, as far as it or its code tells.

    Attributes:
        optimizer: its name, with momentum or moments.
        learning_rate: the rate at the start.
        schedule: how the rate changes, in words.
        batch: crops per step.
        patch_px: side of a crop, in LR pixels for networks that take LR, else in HR pixels.
        data: the images.
        steps: the number of steps; None: not known.
    """

    optimizer: str
    learning_rate: float
    schedule: str
    batch: int
    patch_px: int
    data: str
    steps: int | None = None


@dataclass(frozen=True)
class SystemSpec:
    """A system of the comparison.

    Attributes:
        name: as recipes and commands name it.
        title: as tables name it.
        paper: authors, venue and year.
        network: its class; None where there is none in this table (bicubic, and D2C-SR itself).
        sizes: constructor arguments of the sizes `paper` and `small`.
        loss: the name of its loss: one of `losses/systems.py`, or `adversarial` or `likelihood`,
            which are modules.
        training: the paper's training; None where nothing is trained, or nothing is known here.
    """

    name: str
    title: str
    paper: str
    network: type[SystemNetwork] | None
    sizes: Mapping[str, Sizes]
    loss: str
    training: PaperTraining | None

    @property
    def scales(self) -> tuple[int, ...]:
        """Return the scales that the system can be built for."""
        return SCALES if self.network is None else self.network.scales
