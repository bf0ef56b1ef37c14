"""Systems that D2C-SR is compared with, in one table: network, sizes, and the paper's training.

`paper` sizes have the parameters that the papers publish. `small` ones need the operations of
the 16-channel D2C-SR: within 10% of it at x3, counted per LR megapixel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from d2csr.core.config import SCALES
from d2csr.core.errors import UsageError
from d2csr.models.networks.base import Sizes, SystemNetwork, check_sizes, unknown_name
from d2csr.models.networks.plain import SRCNN


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
        loss: the name of its loss in `losses/systems.py`.
        training: the paper's training; None where nothing is trained.
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


_SPECS = (
    SystemSpec("bicubic", "Bicubic", "Keys, TASSP 1981", None, {}, "none", None),
    SystemSpec(
        "srcnn",
        "SRCNN",
        "Dong et al., TPAMI 2016",
        SRCNN,
        {"paper": {"features": [64, 32], "kernels": [9, 5, 5]}, "small": {"features": [12, 6]}},
        "mse",
        PaperTraining("SGD, momentum 0.9", 1e-4, "fixed; last layer 0.1 of it", 128, 33, "T91"),
    ),
    SystemSpec("d2csr", "D2C-SR", "Li et al., ECCV 2022", None, {}, "none", None),
)
SYSTEMS: dict[str, SystemSpec] = {spec.name: spec for spec in _SPECS}


def find_system(name: str) -> SystemSpec:
    """Return the system of a name.

    Raises:
        UsageError: there is none; the message has the nearest one and the list.
    """
    if name not in SYSTEMS:
        raise unknown_name(name, tuple(SYSTEMS), kind="system", where="system")
    return SYSTEMS[name]


def build_system(name: str, *, scale: int, size: str = "small", **sizes: Any) -> SystemNetwork:
    """Return a system's network with random weights.

    Args:
        name: a key of `SYSTEMS`.
        scale: SR pixels per LR pixel.
        size: `paper` or `small`.
        sizes: constructor arguments that replace those of the size.

    Raises:
        UsageError: name, size, scale or an argument doesn't exist, or has no network.
    """
    spec = find_system(name)
    where = f"system {name}"
    if spec.network is None:
        names = ", ".join(each.name for each in _SPECS if each.network is not None)
        problem = "it is no network of this table"
        raise UsageError(where, problem, remedy=f"Choose among {names}.")
    if size not in spec.sizes:
        raise unknown_name(size, tuple(spec.sizes), kind="size", where=where)
    arguments = {"scale": scale, **spec.sizes[size], **sizes}
    check_sizes(spec.network, arguments, where=where)
    return spec.network(**arguments)
