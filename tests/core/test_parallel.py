"""The pool of processes."""

import os
from pathlib import Path

import pytest

from d2csr.core.errors import ImageError, UsageError
from d2csr.core.parallel import map_in_processes

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


def test_a_process_that_dies_is_an_error_with_a_remedy():
    with pytest.raises(UsageError, match="one of 2 processes died"):
        list(map_in_processes(_die, [1, 1], workers=2))
