"""The two systems that need no weights file: bicubic enlargement and the best linear filter."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from d2csr.core.errors import D2csrError, UsageError
from d2csr.core.manifest import Manifest
from d2csr.data.check import check_pairs
from d2csr.data.sources import open_pairs
from d2csr.evaluate.linear import apply_filters, fit_filters
from d2csr.evaluate.system import Enlarge, Enlarged
from d2csr.images.resize import enlarge_bicubic


@final
@dataclass(frozen=True)
class Bicubic:
    """Bicubic enlargement: the line below which nothing is worth running."""

    name: str = "bicubic"
    weights_sha256: str | None = None
    fitted_on: str | None = None
    predicts: bool = False

    def faults(self, manifest: Manifest) -> list[D2csrError]:
        """Return none: it enlarges everything."""
        return []

    def open(self, manifest: Manifest) -> Enlarge:
        """Return the enlargement by the pairs' scale."""
        return lambda _, lr: Enlarged(enlarge_bicubic(lr, manifest.scale))


@final
@dataclass(frozen=True)
class Linear:
    """Best linear filter: what a real-pair result must beat to show that depth is of use."""

    fit: Path | None
    name: str = "linear"
    weights_sha256: str | None = None
    predicts: bool = False

    @property
    def fitted_on(self) -> str | None:
        """Return the folder of the pairs it is fitted on."""
        return None if self.fit is None else str(self.fit)

    def faults(self, manifest: Manifest) -> list[D2csrError]:
        """Return what is wrong with the pairs it is to be fitted on."""
        if self.fit is None:
            problem = "the linear filter needs pairs to be fitted on"
            return [UsageError("linear", problem, remedy="Give them with --fit DIR.")]
        try:
            return check_pairs(_training_pairs(self.fit, scale=manifest.scale), patch_px=None)
        except D2csrError as fault:
            return [fault]

    def open(self, manifest: Manifest) -> Enlarge:
        """Fit the filters and return their application."""
        if self.fit is None:
            raise ValueError("faults() was not asked")
        filters = fit_filters(_training_pairs(self.fit, scale=manifest.scale))
        return lambda _, lr: Enlarged(apply_filters(lr, filters))


def _training_pairs(path: Path, *, scale: int) -> Manifest:
    """Return the train split of what lies at `path`, or all of it where no split is called so."""
    manifest = open_pairs(path, scale=scale)
    train = manifest.of_split("train")
    return train if train.pairs else manifest
