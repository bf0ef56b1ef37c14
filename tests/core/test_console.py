"""The console: one, and on standard error."""

from d2csr.core.console import console


def test_the_console_is_one_and_on_standard_error():
    assert console() is console()
    assert console().stderr
