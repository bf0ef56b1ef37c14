"""Errors that the user can fix: where, what is wrong, and what to do."""

import errno
import re
import reprlib
from typing import Final

# Control characters (terminals' escape sequences among them), line separators, marks that turn the
# direction of writing, and the surrogates that stand for bytes outside UTF-8 in file names.
_UNPRINTABLE: Final = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_UNPRINTABLE_TEXT: Final = re.compile(f"[{_UNPRINTABLE}]")
_UNPRINTABLE_LINES: Final = re.compile(f"(?!\\n  )[{_UNPRINTABLE}]")


def printable(text: object) -> str:
    r"""Return a text with its control characters as `\u001b` and the like, as JSON writes them.

    Everything that comes from outside, such as the name of a file, is printed through this: it
    could clear the terminal, retitle it, or add lines that look like ours.
    """
    return _UNPRINTABLE_TEXT.sub(_escape, str(text))


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


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
        """Return `where: problem. remedy` as one line, or with indented lines after it.

        Control characters in it are escaped as by `printable`.
        """
        text = _UNPRINTABLE_LINES.sub(_escape, f"{self.problem}. {self.remedy}")
        return f"{printable(self.where)}: {text}"


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


class OutOfMemoryError(D2csrError):
    """A computation whose memory could not be allocated; a smaller part of the image may fit."""


class BundleError(D2csrError):
    """A model folder that is incomplete, damaged or of another format version."""


class CheckpointError(D2csrError):
    """Weights that can't be read or don't fit."""


class ModelNameError(D2csrError):
    """A model name that matches neither a shipped model nor a folder."""


class TrainingError(D2csrError):
    """A training run that can't go on."""


class UsageError(D2csrError):
    """Options that contradict each other."""


class PairRejectedError(Exception):
    """A pair that must not be trained on, with the score or step that rejected it."""

    def __init__(self, cause: str, reason: str) -> None:
        """Store the cause as one word, for lists, and the reason as a sentence."""
        super().__init__(cause, reason)
        self.cause = cause
        self.reason = reason

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason


def shorten(text: str, length: int) -> str:
    """Return a text, without its middle if it is longer than `length` characters."""
    half = (length - 3) // 2
    return text if len(text) <= length else f"{text[:half]}...{text[-half:]}"


def quote(value: object) -> str:
    """Return the `repr` of a value from a file, of limited length and depth."""
    return _QUOTES.repr(value)


_QUOTES = reprlib.Repr()
_QUOTES.maxstring = _QUOTES.maxother = _QUOTES.maxlong = 60


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class's name if the message is empty.

    Libraries raise errors without a message, such as `MemoryError()`, and errors of many lines.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not _SOURCE_LINE.search(line)]
    return next(iter((*said, *lines)), type(error).__name__)


_SOURCE_LINE = re.compile(
    r"\.[ch]pp:\d+:?$"
)  # OpenVINO's: where in its sources an error was raised


def format_beyond(value: float, bound: float, *, spec: str) -> str:
    """Return a number as text, with as many digits as it takes to tell it from its bound.

    Args:
        value: the number.
        bound: one that differs from it.
        spec: digits after the point and the type, at the least, such as `.2f`.
    """
    digits, kind = int(spec[1:-1]), spec[-1]
    texts = (
        f"{value:.{each}{kind}}"
        for each in range(digits, digits + 12)
        if f"{value:.{each}{kind}}" != f"{bound:.{each}{kind}}"
    )
    return next(texts, f"{value:{spec}}")


# Allocation failures as OpenVINO and oneDNN, ONNX Runtime, torch on the processor, cuDNN, the
# decoders of images, the C++ library, the dynamic loader and Python's threads report them; none of
# these has an exception class for it. "memory" alone would also match "illegal memory access" and
# "memory format".
_ALLOCATION_FAILED = re.compile(
    r"bad.?alloc|alloc_?failed|out of memory|(not enough|insufficient) memory"
    r"|(failed to|can't|cannot|could not|unable to) alloc|memory allocation (error|failed)"
    r"|failed to map segment|can't start new thread",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports a failed allocation, by its class or else by its message."""
    classes = {each.__name__ for each in type(error).__mro__}
    if classes & {"MemoryError", "OutOfMemoryError"}:  # torch's, by name: it isn't imported here
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    return _ALLOCATION_FAILED.search(str(error)) is not None


def is_from_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one that it was raised from or while handling, reports it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if is_out_of_memory(current):
            return True
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return False
