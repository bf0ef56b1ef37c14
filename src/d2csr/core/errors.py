"""Errors that the user can fix: where, what is wrong, and what to do."""


class D2csrError(Exception):
    """An error in what the user gave; printed as one line, exit code 2."""

    def __init__(self, where: object, problem: str, remedy: str) -> None:  # noqa: PLR0917
        """Store the three parts separately, so that reports can list them.

        All three are positional, because unpickling passes `args` by position: these errors cross
        process boundaries.

        Args:
            where: the file, folder or option that is wrong.
            problem: what is wrong, without a full stop.
            remedy: what to do about it, one sentence.
        """
        self.where = str(where)
        self.problem = problem
        self.remedy = remedy
        super().__init__(self.where, problem, remedy)

    def __str__(self) -> str:
        """Return `where: problem. remedy` as one line."""
        return f"{self.where}: {self.problem}. {self.remedy}"


class ImageError(D2csrError):
    """An image that can't be read or written."""


class PairError(D2csrError):
    """An LR and an HR image that don't belong together."""


class DataError(D2csrError):
    """A folder or list of pairs that can't be used."""


class ManifestError(D2csrError):
    """A manifest file that doesn't follow its schema."""


class RecipeError(D2csrError):
    """A training recipe with errors."""


class BundleError(D2csrError):
    """A model folder that is incomplete, damaged or of another format version."""


class CheckpointError(D2csrError):
    """Weights that can't be read or don't fit."""


class ModelNameError(D2csrError):
    """A model name that nothing answers to."""


class TrainingError(D2csrError):
    """A training run that can't go on."""


class UsageError(D2csrError):
    """Options that contradict each other."""


class PairRejectedError(Exception):
    """A pair that must not be trained on: which score or step says so, and the reason."""

    def __init__(self, cause: str, reason: str) -> None:
        """Keep the cause as one word for lists, and the reason as a sentence."""
        super().__init__(cause, reason)
        self.cause = cause
        self.reason = reason

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason
