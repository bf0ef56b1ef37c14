"""A wish to stop: SIGTERM or SIGINT noted, so that a run ends its step and saves."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def asked_to_stop(*, tell: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Yield a list that SIGTERM or SIGINT fills; `tell` passes each on to whoever does the work."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        tell()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
