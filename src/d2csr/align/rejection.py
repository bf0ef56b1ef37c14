"""Why a pair of photographs makes no training pair."""


class Rejection(Exception):  # noqa: N818 - a verdict on data, not a fault of the program or user
    """A pair that must not be trained on: which score or step says so, and the reason."""

    def __init__(self, cause: str, reason: str) -> None:
        """Keep the cause as one word for lists, and the reason as a sentence."""
        super().__init__(cause, reason)
        self.cause = cause
        self.reason = reason

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason
