"""A trained model as a system: a shipped name, a run, or a bundle, on the engine."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import UInt8

from d2csr.core.bundle import Bundle, read_bundle, verify_bundle
from d2csr.core.errors import BundleError, D2csrError
from d2csr.core.manifest import Manifest, Pair
from d2csr.engine import open_engine
from d2csr.engine.disagreement import disagreement
from d2csr.engine.flat import ColourGuard
from d2csr.engine.shipped import resolve
from d2csr.evaluate.system import Enlarge, Enlarged


@final
@dataclass(frozen=True)
class Model:
    """One bundle, whatever name or folder led to it."""

    name: str
    bundle: Bundle
    fitted_on: str | None = None
    predicts: bool = True

    @property
    def weights_sha256(self) -> str | None:
        """Return the hash of the bundle's weights file."""
        return self.bundle.weights_sha256

    def faults(self, manifest: Manifest) -> list[D2csrError]:
        """Return a fault where the bundle is damaged, or the pairs are of another scale."""
        try:
            verify_bundle(self.bundle)  # the results name its weights by the card's hash
        except BundleError as fault:
            return [fault]
        scale = self.bundle.card.scale
        if scale == manifest.scale:
            return []
        problem = f"enlarges {scale} times, the pairs of {manifest.folder} are x{manifest.scale}"
        return [BundleError(self.name, problem, remedy="Choose a model or pairs of one scale.")]

    def open(self, manifest: Manifest) -> Enlarge:
        """Start the engine and return its application."""
        engine = open_engine(self.bundle)

        def enlarge(pair: Pair, lr: UInt8[np.ndarray, "h w 3"]) -> Enlarged:
            lr01 = lr.astype(np.float32) / np.float32(255)
            output = engine.run(lr01)
            guard = ColourGuard(lr01, scale=self.bundle.card.scale)
            return Enlarged(guard.guarded(output.sr, first_row=0), disagreement(output))

        return enlarge


def named_model(name: str) -> Model:
    """Return the model of a shipped name, or of a run or bundle folder.

    Raises:
        ModelNameError: there is none.
        BundleError: its bundle is incomplete or of another version.
    """
    return Model(name, read_bundle(resolve(name)))
