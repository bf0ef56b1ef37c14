"""Running the commands of a page of the docs, with recipes cut short."""

import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from d2csr.cli.app import main


def short_recipe(text):
    """Return the recipe with three steps a stage, the rest of it as it was."""
    for key, value in {"steps": 3, "warmup": 1, "validation": 3}.items():
        assert re.search(rf"\b{key}: \d+", text), key
        text = re.sub(rf"\b{key}: \d+", f"{key}: {value}", text)
    return text


def run(command):
    """Run a line of the page as a shell would; return its code and all it printed."""
    program, *words = shlex.split(command, comments=True)
    assert program == "d2csr", "the page shows a command that this test can't run"
    out = StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = main(words)
    return code, out.getvalue()
