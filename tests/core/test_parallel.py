"""The pool of processes."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from d2csr.core.errors import ImageError, UsageError
from d2csr.core.parallel import MAX_ATTEMPTS, ActorPool, map_in_processes, ray_session

STARTED = "D2CSR_TEST_STARTED"


def _square(value):
    return value * value


def _process_and_mark(value):
    return value, os.getpid(), os.environ.get(STARTED)


def _mark_process():
    os.environ[STARTED] = "yes"


def _fail(path):
    raise ImageError(path, "is damaged", "Replace it.")


def _die(value):
    os._exit(value)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_answered_under_its_index(workers):
    answers = dict(map_in_processes(_square, [3, 4, 5], workers=workers))
    assert answers == {0: 9, 1: 16, 2: 25}


def test_each_process_is_another_one_and_initialized():
    tasks = list(map_in_processes(_process_and_mark, [1, 2], workers=2, initializer=_mark_process))
    assert {mark for _, (_, _, mark) in tasks} == {"yes"}
    assert os.getpid() not in {process for _, (_, process, _) in tasks}
    assert STARTED not in os.environ


def test_one_worker_starts_no_process():
    ((_, (_, process, _)),) = map_in_processes(_process_and_mark, [1], workers=4)
    assert process == os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_is_raised_as_it_is(workers):
    with pytest.raises(ImageError) as raised:
        list(map_in_processes(_fail, [Path("a.png"), Path("a.png")], workers=workers))
    assert raised.value.where == "a.png"
    assert raised.value.remedy == "Replace it."


def _tell_and_sleep(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


def test_the_processes_of_a_killed_one_end_with_it(tmp_path):
    """They waited for tasks for ever, with the memory that they held."""
    program = (
        "import sys; from tests.core.test_parallel import _tell_and_sleep\n"
        "from d2csr.core.parallel import map_in_processes\n"
        "if __name__ == '__main__':\n"
        "    list(map_in_processes(_tell_and_sleep, sys.argv[1:], workers=2))"
    )
    (tmp_path / "program.py").write_text(program)
    told = [tmp_path / "one", tmp_path / "two"]
    for folder in told:
        folder.mkdir()
    command = [sys.executable, str(tmp_path / "program.py"), *map(str, told)]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
    workers = [_wait_for(lambda folder=folder: [int(p.name) for p in folder.iterdir()])[0]
               for folder in told]  # fmt: skip
    process.kill()
    process.wait()
    _wait_for(lambda: not any(_is_alive(worker) for worker in workers))


def _wait_for(condition):
    """Return what a condition returns as soon as that is true."""
    for _ in range(600):
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it never came")


def _is_alive(process_id):
    status = Path(f"/proc/{process_id}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_process_that_dies_is_an_error_with_a_remedy():
    with pytest.raises(UsageError, match="one of 2 processes died"):
        list(map_in_processes(_die, [1, 1], workers=2))


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra `cluster`)")
def test_a_task_is_tried_on_new_workers_as_often_as_stated(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    log = tmp_path / "log"

    class MortalWorker:  # here, so that it is sent whole: workers can't import the tests
        def run(self, task):
            value, log = task
            with log.open("a") as file:
                file.write(f"{value}\n")
            tries = log.read_text().split().count(str(value))
            if value == "always" or (value == "twice" and tries <= 2):
                os.kill(os.getpid(), signal.SIGKILL)
            return value

    pool = ActorPool(MortalWorker, lambda task: f"gave up on {task[0]}")
    with ray_session():
        tasks = [(value, log) for value in ("a", "twice", "always", "b")]
        answers = sorted(pool.map_unordered(tasks, workers=2))
    assert answers == ["a", "b", "gave up on always", "twice"]
    tries = log.read_text().split()
    assert [tries.count(value) for value in ("a", "b", "twice", "always")] == [
        1,
        1,
        3,
        MAX_ATTEMPTS,
    ]
