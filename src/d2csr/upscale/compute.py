"""What a call computes with, and how much memory it may take."""

import re
from dataclasses import dataclass

from d2csr.core.bundle import Bundle
from d2csr.core.errors import UsageError
from d2csr.engine.engine import Engine, open_engine
from d2csr.engine.precision import AskedPrecision
from d2csr.images.formats import DEFAULT_LIMIT_MP

_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_UNITS |= {f"{prefix}I": 1024**power for power, prefix in enumerate("KMGT", start=1)}
_WRITING_BYTES = 64 << 20  # of the memory allowed: rows that wait for the encoder, and its own
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([KMGT]?I?)B?")


@dataclass(frozen=True)
class Compute:
    """What to compute with.

    Attributes:
        backend: a name of the backend table, or `auto`.
        device: `auto`, `cpu`, `gpu`, or a GPU's index.
        precision: `auto`, or one that the backend has.
        memory: bytes that the process may hold; None: what it holds, and a share of what is free.
        limit_mp: the largest picture taken, in millions of pixels.
    """

    backend: str = "auto"
    device: str = "auto"
    precision: AskedPrecision = "auto"
    memory: int | None = None
    limit_mp: float = DEFAULT_LIMIT_MP

    def open(self, bundle: Bundle) -> Engine:
        """Return an engine for a model.

        Raises:
            UsageError: no such backend, device or precision here.
            BundleError: a graph can't be read.
        """
        return open_engine(
            bundle,
            backend=self.backend,
            device=self.device,
            precision=self.precision,
            memory=None if self.memory is None else self.memory - _WRITING_BYTES,
        )


AUTOMATIC = Compute()


def parse_bytes(text: str) -> int:
    """Return how many bytes `4GiB`, `500MB` or `1048576` are.

    Raises:
        UsageError: it is none of these, or none at all.
    """
    match = _NUMBER.fullmatch(text.strip().upper())
    unit = _UNITS.get(match[2]) if match else None
    count = int(float(match[1]) * unit) if match and unit else 0
    if count < 1:
        remedy = "Write it as 4GiB, 500MB, or a number of bytes."
        raise UsageError("--memory", f"{text!r} is no amount of memory", remedy=remedy)
    return count
