"""Names a system can have: two baselines, a shipped model, a run, a bundle, finished pictures."""

from pathlib import Path

from d2csr.core.errors import D2csrError, ModelNameError
from d2csr.evaluate.baselines import Bicubic, Linear
from d2csr.evaluate.model import named_model
from d2csr.evaluate.pictures import Pictures, holds_pictures
from d2csr.evaluate.system import System

BASELINES = ("bicubic", "linear")


def find_systems(
    names: tuple[str, ...], *, fit: Path | None
) -> tuple[list[System], list[D2csrError]]:
    """Return the systems of these names, each once, bicubic among them, and the names' faults."""
    systems: list[System] = []
    faults: list[D2csrError] = []
    for name in dict.fromkeys([*names, "bicubic"]):
        try:
            systems.append(find_system(name, fit=fit))
        except D2csrError as fault:
            faults.append(fault)
    return systems, faults


def find_system(name: str, *, fit: Path | None) -> System:
    """Return the system a name stands for; `./bicubic` is a folder, `bicubic` is not.

    Args:
        name: `bicubic`, `linear`, a shipped model, a run, a bundle, or a folder of pictures.
        fit: pairs for the linear filter.

    Raises:
        ModelNameError: nothing answers to the name.
        BundleError: the bundle is incomplete or of another version.
    """
    if name == "bicubic":
        return Bicubic()
    if name == "linear":
        return Linear(fit)
    if holds_pictures(folder := Path(name)) and not _holds_model(folder):
        return Pictures(folder, name)
    try:
        return named_model(name)
    except ModelNameError as fault:
        remedy = f"{fault.remedy} Baselines: {', '.join(BASELINES)}; or a folder of SR pictures."
        raise ModelNameError(fault.where, fault.problem, remedy=remedy) from fault


def _holds_model(folder: Path) -> bool:
    """Return whether a folder is a bundle, or a run that has one."""
    return any((folder / path).is_file() for path in ("bundle.json", "bundle/bundle.json"))
