"""A conveyor between two threads: few pieces are on it, and both ends learn of the other's end."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar, final

Piece = TypeVar("Piece")


class LeftAloneError(Exception):
    """The other end is gone: what is put on the conveyor would reach nobody, or no more comes."""


@final
class Conveyor(Generic[Piece]):
    """Pieces on their way from one thread to another, at most `places` at a time."""

    def __init__(self, *, places: int) -> None:
        """Start empty, both ends attended."""
        self._places = places
        self._pieces: deque[Piece] = deque()
        self._changed = threading.Condition()
        self._complete = False
        self._left_alone = False

    def put(self, piece: Piece) -> None:
        """Put a piece on; wait for a place.

        Raises:
            LeftAloneError: the taker has given up.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._left_alone or len(self._pieces) < self._places)
            if self._left_alone:
                raise LeftAloneError
            self._pieces.append(piece)
            self._changed.notify_all()

    @contextmanager
    def filling(self) -> Iterator["Conveyor[Piece]"]:
        """Let the taker see the end when the block ends; if it fails, the taker fails too."""
        try:
            yield self
        except BaseException:
            self._leave()
            raise
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    @contextmanager
    def emptying(self) -> Iterator[Iterator[Piece]]:
        """Yield the pieces as they come; if the block fails, so will the next `put`.

        Raises:
            LeftAloneError: in the iteration: the giver failed, and the pieces are not all.
        """
        try:
            yield self._taken()
        finally:
            self._leave()

    def _taken(self) -> Iterator[Piece]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._left_alone or self._pieces or self._complete)
                if self._left_alone:
                    raise LeftAloneError
                if not self._pieces:
                    return
                piece = self._pieces.popleft()
                self._changed.notify_all()
            yield piece

    def _leave(self) -> None:
        with self._changed:
            self._left_alone = True
            self._pieces.clear()
            self._changed.notify_all()
