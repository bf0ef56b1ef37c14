"""The examples in the help of every command: each command has some, and takes each."""

import shlex

import pytest

from d2csr.cli import app
from d2csr.cli.examples import EXAMPLES

COMMANDS = [
    *app._COMMANDS,
    *(f"data {name}" for name in app._DATA_COMMANDS),
    *(f"data import {name}" for name in app._IMPORT_COMMANDS),
    *(f"convert {name}" for name in app._CONVERT_COMMANDS),
    *(f"suite {name}" for name in app._SUITE_COMMANDS),
    app._INSTALL_COMPLETION,
]
LINES = [(command, line) for command, lines in EXAMPLES.items() for line in lines]


def test_every_command_has_examples_and_nothing_else_has():
    assert {*EXAMPLES} == {"", *COMMANDS}


@pytest.mark.parametrize("command", ["", *COMMANDS, *app._GROUPS])
def test_the_help_ends_with_the_examples(d2csr, command):
    _, _, examples = d2csr(*command.split(), "--help").out.partition("\nExamples:")
    printed = [line.strip() for line in examples.splitlines() if line.strip()]
    group = [line for name, lines in EXAMPLES.items() if name.startswith(f"{command} ")
             for line in lines]  # fmt: skip
    assert printed == [*EXAMPLES.get(command, group)]


@pytest.mark.parametrize(("command", "line"), LINES)
def test_an_example_is_a_call_that_the_program_takes(command, line):
    words = app.complete_words(shlex.split(line.partition(" > ")[0], comments=True))
    assert words[: len(command.split()) + 1] == ["d2csr", *command.split()]
    app.build_app().parse_args(words[1:], exit_on_error=False, print_error=False)
    assert len(line) <= 76
