"""Table of the commands, and the way their faults reach the shell."""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from d2csr import __version__
from d2csr.core.errors import D2csrError

_COMMANDS = {
    "upscale": ("d2csr.cli.upscale:upscale", "Enlarge photographs."),
    "evaluate": ("d2csr.cli.evaluate:evaluate", "Score models on paired photographs."),
    "train": ("d2csr.cli.train:train", "Train a model by a recipe."),
    "export": ("d2csr.cli.export:export", "Make a bundle from a training run."),
    "models": ("d2csr.cli.models:models", "List the models that ship with the package."),
    "doctor": ("d2csr.cli.doctor:doctor", "Say what works on this machine."),
}
_DATA_COMMANDS = {
    "check": ("d2csr.cli.data:check", "Find every fault in a folder of pairs."),
    "bicubic": ("d2csr.cli.data:bicubic", "Make bicubic pairs from a folder of photographs."),
}
_IMPORT_COMMANDS = {
    "city100": ("d2csr.cli.data:city100", "Take the pairs from a clone of the authors' repository."),
}
_CONVERT_COMMANDS = {
    "official": ("d2csr.cli.convert:official", "Convert a checkpoint of the paper's authors."),
}


def build_app() -> App:
    """Return the command line with every command named and none imported."""
    app = _with_commands(
        App(
            name="d2csr",
            help="Super-resolution of real photographs by divergence and convergence.",
            help_format="plaintext",  # markdown would cost a fifth of the 0.3 s that --help may take
            version=__version__,
            error_formatter=lambda fault: f"error: {fault}",
            suppress_keyboard_interrupt=False,
        ),
        _COMMANDS,
    )
    data = _with_commands(App(name="data", help="Check, import and make pairs."), _DATA_COMMANDS)
    data.command(_with_commands(App(name="import", help="Take in a public set."), _IMPORT_COMMANDS))
    app.command(data)
    app.command(
        _with_commands(App(name="convert", help="Convert foreign weights."), _CONVERT_COMMANDS)
    )
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 done in part, 2 the user can mend it."""
    try:
        code = build_app()(
            arguments, result_action="return_value", exit_on_error=False, print_error=True
        )
    except CycloptsError:  # already printed
        return 2
    except D2csrError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return code if isinstance(code, int) else 0


def _with_commands(app: App, commands: dict[str, tuple[str, str]]) -> App:
    """Return `app` after naming `commands` in it: name -> (where to import it from, help)."""
    for name, (path, summary) in commands.items():
        app.command(path, name=name, help=summary)
    return app
