"""Commands run inside the test's process: exit code, standard output, standard error."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from d2csr.cli.app import main


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def d2csr(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs `d2csr WORDS...` as the shell would; words may be paths."""
    monkeypatch.setenv("COLUMNS", "200")  # so that no message is wrapped where a test looks

    def run(*words: object) -> Answer:
        capfd.readouterr()
        code = main([str(word) for word in words])
        return Answer(code, *capfd.readouterr())

    return run
