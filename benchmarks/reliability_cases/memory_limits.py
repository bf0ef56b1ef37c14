"""Commands whose address space is limited, from far too little to more than enough."""

import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from reliability_cases.subjects import SUBJECTS, Ended, finish, leftovers, run_whole, start

_LEAST_MB, _MOST_MB = 150, 2500
_WRONG_ADVICE = ("Copy the", "Replace the file", "pip install", "Free some disk")


def memory_limits(name: str) -> Callable[[Path, int], Iterator[str]]:
    """Return the case of a command under limits of its address space."""

    def run(folder: Path, times: int) -> Iterator[str]:
        """Yield for each limit what was wrong: neither the right files nor one line on memory."""
        subject = SUBJECTS[name](folder)
        whole = run_whole(subject, folder)
        for at in range(times):
            limit_mb = _LEAST_MB + (_MOST_MB - _LEAST_MB) * at // max(1, times - 1)
            output = folder / "limited" / str(limit_mb)
            output.parent.mkdir(exist_ok=True)
            cache = folder / ("cache" if at % 2 else f"cache-{limit_mb}")  # warm, or cold
            process = start(
                subject.words(output),
                cache=cache,
                preexec_fn=partial(_limit, limit_mb * 10**6),
            )
            ended = finish(process)
            problem = _problem(ended) if ended.code else whole.differs(output)
            problem = problem or whole.incomplete(output)
            if not problem and (left := leftovers(output.parent)):
                problem = f"left behind {left[0]}"
            yield f"{limit_mb} MB: {problem}" if problem else ""

    return run


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _problem(ended: Ended) -> str:
    """Return what is wrong with how a command failed, for lack of memory."""
    if problem := ended.problem(1, 2):
        return problem
    lines = [line for line in ended.err.splitlines() if not line.startswith("warning: ")]
    if any(text in ended.err for text in _WRONG_ADVICE):
        return f"wrong advice: {ended.err[:200]}"
    if not lines or not all("memory" in line for line in lines):  # a line for each image
        return f"not lines that say memory: {ended.err[:300]}"
    return ""
