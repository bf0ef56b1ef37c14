"""The questions evaluation asks of anything that enlarges."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from d2csr.core.errors import D2csrError
from d2csr.core.manifest import Manifest, Pair
from d2csr.metrics.protocol import Picture


class Enlarged(NamedTuple):
    """What a system made of one LR picture.

    Attributes:
        sr: RGB in 0..255, or float in 0..1, unclipped.
        disagreement: spread of its predictions in grey levels; None where it makes but one.
    """

    sr: Picture
    disagreement: Float[np.ndarray, "h w"] | None = None


Enlarge = Callable[[Pair, UInt8[np.ndarray, "h w 3"]], Enlarged]


@runtime_checkable  # the shape checks of the tests ask isinstance
class System(Protocol):
    """Something that turns LR into SR, or has done so before."""

    @property
    def name(self) -> str:
        """Return what tables and files call it."""
        ...

    @property
    def weights_sha256(self) -> str | None:
        """Return the hash of its weights; None where it has none."""
        ...

    @property
    def fitted_on(self) -> str | None:
        """Return the pairs it was fitted on just now; None for all but the linear filter."""
        ...

    @property
    def predicts(self) -> bool:
        """Return whether it makes several predictions, which can disagree."""
        ...

    def faults(self, manifest: Manifest) -> list[D2csrError]:
        """Return why it can't do these pairs, without doing any work."""
        ...

    def open(self, manifest: Manifest) -> Enlarge:
        """Load, or fit, what it needs, and return the function that enlarges."""
        ...
