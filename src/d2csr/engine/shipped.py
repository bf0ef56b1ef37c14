"""Names of models: those that ship inside the package, and folders that hold one."""

from pathlib import Path

from d2csr.core.bundle import CARD_NAME, Bundle, read_bundle
from d2csr.core.errors import ModelNameError

_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
_OF_A_RUN = "bundle"


def shipped_names() -> list[str]:
    """Return the names of the models that ship with the package, sorted."""
    return sorted(card.parent.name for card in _WEIGHTS.glob(f"*/{CARD_NAME}"))


def shipped_bundles() -> list[Bundle]:
    """Return the bundles that ship with the package, by name.

    Raises:
        BundleError: one is incomplete or damaged.
    """
    return [read_bundle(_WEIGHTS / name) for name in shipped_names()]


def resolve(name: str | Path) -> Path:
    """Return the bundle folder a name stands for.

    Args:
        name: a shipped model, a bundle's folder, or the folder of a run that exported one.

    Raises:
        ModelNameError: neither; the shipped names are listed.
    """
    if str(name) in shipped_names():
        return _WEIGHTS / str(name)
    for folder in (Path(name), Path(name) / _OF_A_RUN):
        if (folder / CARD_NAME).is_file():
            return folder
    if Path(name).is_dir():
        problem = f"holds neither {CARD_NAME} nor {_OF_A_RUN}/{CARD_NAME}"
        raise ModelNameError(name, problem, remedy="Make a bundle of it with `d2csr export`.")
    ships = ", ".join(shipped_names()) or "none"
    remedy = f"Shipped models: {ships}. Or give the folder of a bundle or a run."
    raise ModelNameError(name, "is no model", remedy=remedy)
