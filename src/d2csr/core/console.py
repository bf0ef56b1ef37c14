"""Words for the person at the screen: one console, on standard error."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console() -> "Console":
    """Return the console for progress and notes; standard output is left to results."""
    from rich.console import Console  # 30 ms that `--help` must not pay

    return Console(stderr=True, highlight=False)
