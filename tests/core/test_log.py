"""The log: on standard error, in whole lines where no terminal is."""

import pytest

from d2csr.core.log import LOG, console, set_up_logging


@pytest.fixture(autouse=True)
def _log_put_back():
    handlers, level, propagate = LOG.handlers[:], LOG.level, LOG.propagate
    yield
    LOG.handlers[:], LOG.propagate = handlers, propagate
    LOG.setLevel(level)


def test_a_long_line_stays_whole_and_off_standard_output(capsys):
    set_up_logging()
    LOG.info("x" * 500)
    assert capsys.readouterr() == ("", f"INFO {'x' * 500}\n")


def test_setting_up_twice_prints_once(capsys):
    set_up_logging()
    set_up_logging()
    LOG.warning("once")
    assert capsys.readouterr().err == "WARNING once\n"


def test_lesser_levels_are_left_out(capsys):
    set_up_logging("WARNING")
    LOG.info("quiet")
    assert capsys.readouterr().err == ""


def test_the_console_is_one_and_on_standard_error():
    assert console() is console()
    assert console().stderr
