"""The option `--install-completion`: the shell completes commands, options and file names.

Separate so that it is imported only by the call.
"""

from pathlib import Path
from typing import Literal

from d2csr.core.console import print_line
from d2csr.core.errors import UsageError

Shell = Literal["bash", "zsh", "fish"]


def install_completion(*, shell: Shell | None = None) -> int:
    """Make the shell complete commands, options and file names.

    Writes a script into the folder of the shell's completions below the home folder. For bash and
    zsh, a line that loads it is added to `~/.bashrc` or `~/.zshrc`. Do it again after an update.

    Args:
        shell: The shell; by default the one that runs the command.
    """
    from cyclopts.completion.detect import ShellDetectionError

    from d2csr.cli.app import build_app

    try:
        path: Path = build_app().install_completion(shell=shell)
    except (ShellDetectionError, ValueError) as error:
        remedy = "Name it: d2csr --install-completion --shell bash, zsh or fish."
        raise UsageError("--install-completion", "finds no shell that it knows", remedy) from error
    except OSError as error:
        problem = f"can't be written: {error.strerror}"
        raise UsageError(str(error.filename), problem, "Make it writable.") from error
    print_line(f"Start a new shell to complete with Tab. The script: {path}")
    return 0
