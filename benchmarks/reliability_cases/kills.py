"""Commands that are killed at random moments, or interrupted twice."""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from reliability_cases.subjects import SUBJECTS, Ended, Whole, finish, leftovers, run_whole, start

# Exit codes of an interrupted command: told by the program, or by the system for the signals.
_INTERRUPTED = (0, 130, 143, -signal.SIGINT, -signal.SIGTERM)


def kills(name: str) -> Callable[[Path, int], Iterator[str]]:
    """Return the case of a command that is killed and started again until it ends by itself."""

    def run(folder: Path, times: int) -> Iterator[str]:
        """Yield for each kill what was wrong after it; for the last of a series, at the end too."""
        subject = SUBJECTS[name](folder)
        whole = run_whole(subject, folder)
        draw, output, killed = random.Random(name), folder / "killed" / "out", 0
        while killed < times:
            shutil.rmtree(output.parent, ignore_errors=True)
            output.parent.mkdir()
            waiting = ""  # the verdict on the latest kill, which also answers for the end
            series = 0
            while True:
                process = start(subject.words(output), cache=folder / "cache")
                delay = draw.uniform(0, whole.seconds) if killed < times else 1000.0
                ended = _kill_after(process, delay)
                if ended is not None:
                    break
                if series:
                    yield waiting
                killed, series = killed + 1, series + 1
                waiting = whole.incomplete(output)
            if series:
                yield waiting or _at_the_end(ended, output, whole=whole)

    return run


def _kill_after(process: "subprocess.Popen[str]", seconds: float) -> Ended | None:
    """Kill a process after some time; return how it ended if it did so before."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    return Ended(process.returncode, out, err)


def _at_the_end(ended: Ended, output: Path, *, whole: Whole) -> str:
    """Return what is wrong after the run that went on to the end."""
    refusal = whole.subject.refusal
    is_finished = bool(refusal) and ended.code == 2 and refusal in ended.err  # killed at its end
    if problem := ended.problem(2 if is_finished else 0) or whole.differs(output):
        return f"started again: {problem}"
    left = leftovers(output.parent)
    return f"left behind {left[0]}" if left else ""


def interrupts(folder: Path, times: int) -> Iterator[str]:
    """Yield what was wrong after two signals, SIGTERM or SIGINT, at a random moment."""
    subjects = {}
    for name in ("upscale", "train", "align", "simulate"):
        place = folder / name
        place.mkdir()
        subject = SUBJECTS[name](place)
        subjects[name] = subject, run_whole(subject, place), place
    draw = random.Random(0)
    for at in range(times):
        name = list(subjects)[at % len(subjects)]
        number = (signal.SIGTERM, signal.SIGINT)[at // len(subjects) % 2]
        subject, whole, place = subjects[name]
        output = place / f"interrupted{at}"
        process = start(subject.words(output), cache=place / "cache")
        time.sleep(draw.uniform(0.1, 0.95) * whole.seconds)
        for _ in range(2):
            process.send_signal(number)
            time.sleep(draw.uniform(0.02, 0.5))
        ended = finish(process, timeout_s=60)
        verdict = ended.problem(*_INTERRUPTED) or whole.incomplete(output)
        yield f"`{name}`, {number.name}: {verdict}" if verdict else ""
