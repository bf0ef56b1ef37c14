"""Seconds by part of the work."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar, final

Piece = TypeVar("Piece")


@final
class Stopwatch:
    """Sums seconds by part; each part belongs to one thread at a time."""

    def __init__(self) -> None:
        """Start at none."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add the seconds that the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[part] = self.seconds.get(part, 0.0) + spent

    def timed(self, part: str, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Yield pieces and add the seconds that making them takes, not those of their use."""
        source = iter(pieces)
        while True:
            with self.timing(part):
                piece = next(source, None)
            if piece is None:
                return
            yield piece
