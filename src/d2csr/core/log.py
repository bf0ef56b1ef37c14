"""Words for the person at the screen: one console and one log, both on standard error."""

import logging
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LOG = logging.getLogger("d2csr")


@cache
def console() -> "Console":
    """Return the console for progress and notes; standard output is left to results."""
    from rich.console import Console  # 30 ms that `--help` must not pay

    return Console(stderr=True, highlight=False)


def set_up_logging(level: str = "INFO") -> None:
    """Send the log to standard error: coloured on a terminal, whole plain lines elsewhere.

    Args:
        level: the least level that is shown, as `logging` names it.
    """
    LOG.handlers[:] = [_terminal_handler() if sys.stderr.isatty() else _plain_handler()]
    LOG.setLevel(level)
    LOG.propagate = False


def _terminal_handler() -> logging.Handler:
    """Return a handler that shares the console with progress bars."""
    from rich.logging import RichHandler

    return RichHandler(console=console(), show_time=False, show_path=False)


def _plain_handler() -> logging.Handler:
    """Return a handler that never wraps a line, so that files and pipes stay searchable."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    return handler
