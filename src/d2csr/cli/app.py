"""The `d2csr` command line: the table of commands, and how errors become exit codes."""

import errno
import os
import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from d2csr import __version__
from d2csr.cli.examples import describe_examples
from d2csr.core.console import print_error, print_line
from d2csr.core.errors import D2csrError, is_from_out_of_memory, printable, shorten

_COMMANDS = {
    "upscale": ("d2csr.cli.upscale:upscale", "Enlarge photographs."),
    "app": ("d2csr.cli.web:app", "Enlarge photographs on a page in the browser."),
    "evaluate": ("d2csr.cli.evaluate:evaluate", "Score models on paired photographs."),
    "calibrate": (
        "d2csr.cli.evaluate:calibrate",
        "Fit the prediction of a model's error, for `upscale --uncertainty`.",
    ),
    "train": ("d2csr.cli.train:train", "Train a model from a recipe, or print an example of one."),
    "export": ("d2csr.cli.models:export", "Export a bundle from a training run."),
    "align": (
        "d2csr.cli.align:align",
        "Make training pairs from photographs taken with a zoom lens.",
    ),
    "simulate": (
        "d2csr.cli.simulate:simulate",
        "Make training pairs with a simulated zoom camera.",
    ),
    "paper": ("d2csr.cli.paper:paper", "Make the tables and figures of the paper."),
    "models": ("d2csr.cli.models:models", "List the models that ship with the package."),
    "benchmark": ("d2csr.cli.benchmark:benchmark", "Measure speed and memory of models."),
    "doctor": ("d2csr.cli.doctor:doctor", "Report what works on this machine."),
}
_INSTALL_COMPLETION = "--install-completion"
_DATA_COMMANDS = {
    "check": ("d2csr.cli.data:check", "Find all errors in a folder of pairs."),
    "bicubic": ("d2csr.cli.data:bicubic", "Make bicubic pairs from a folder of photographs."),
}
_IMPORT_COMMANDS = {
    "city100": ("d2csr.cli.data:city100", "Import the pairs from a clone of CameraSR."),
}
_CONVERT_COMMANDS = {
    "official": ("d2csr.cli.models:official", "Convert a checkpoint of the paper's authors."),
    "system": ("d2csr.cli.models:system", "Convert weights of another network's public code."),
}

_GROUPS = {
    "data": "Check, import and make pairs.",
    "data import": "Import a public dataset.",
    "convert": "Convert weights of other projects.",
    "suite": "Compare trainings: systems, seeds and data sets.",
}
_SUITE_COMMANDS = {
    "run": ("d2csr.cli.suite:run", "Train and score every system of a suite."),
    "table": ("d2csr.cli.suite:table", "Print the scores of a suite."),
    "figure": ("d2csr.cli.suite:figure", "Draw the scores of a suite."),
}

# Modules by the extra that installs them.
_EXTRAS = {
    "app": {"fastapi", "gradio", "starlette", "uvicorn"},
    "train": {"onnx", "safetensors", "tensorboard", "torch"},
    "onnxruntime": {"onnxruntime"},
    "ncnn": {"ncnn"},
    "spandrel": {"spandrel", "torchvision"},
    "huggingface": {"huggingface_hub"},
    "benchmarks": {"matplotlib", "ncnn", "onnxruntime", "pnnx"},
    "align": {"cv2", "lensfunpy", "rawpy"},
}

_REMARKS = {
    "train": " On Linux, pip takes PyTorch's build for NVIDIA GPUs, some gigabytes; without such a "
    "GPU, install the build for CPUs first (pytorch.org, Get Started)."
}
_BROKEN_PIPE = 141  # 128 + SIGPIPE, as the shell reports programs that the signal ends


def build_app(words: Sequence[str] = ()) -> App:
    """Return the command line, on which every command is registered and none imported.

    Args:
        words: the arguments; a command among them is described by its own docstring.
    """
    # Markdown reflows docstrings, but takes 60 of the 300 ms allowed for `d2csr --help`.
    names_command = not all(word.startswith("-") for word in words)
    app = App(
        name="d2csr",
        help="Super-resolution of real photographs by divergence and convergence.",
        help_format="markdown" if names_command else "plaintext",
        help_epilogue=describe_examples(""),
        version=__version__,
        default_parameter=Parameter(negative=""),  # no --no-resume beside --resume
        error_formatter=lambda error: printable(f"error: {error}"),
        suppress_keyboard_interrupt=False,
    )
    _add_commands(app, words)
    return app


def _add_commands(app: App, words: Sequence[str]) -> None:
    """Register every command, with a summary unless it is among the arguments."""
    app.command(
        "d2csr.cli.completion:install_completion",
        name=_INSTALL_COMPLETION,
        help="Make the shell complete commands, options and file names.",
        help_epilogue=describe_examples(_INSTALL_COMPLETION),
    )
    data, imports, convert, suite = (
        App(name=group.split()[-1], help=summary, help_epilogue=describe_examples(group))
        for group, summary in _GROUPS.items()
    )
    for parent, above, commands in (
        (app, "", _COMMANDS),
        (data, "data ", _DATA_COMMANDS),
        (imports, "data import ", _IMPORT_COMMANDS),
        (convert, "convert ", _CONVERT_COMMANDS),
        (suite, "suite ", _SUITE_COMMANDS),
    ):
        for name, (path, summary) in commands.items():
            parent.command(
                path,
                name=name,
                help=None if name in words else summary,
                help_epilogue=describe_examples(f"{above}{name}"),
            )
    data.command(imports)
    app.command(data)
    app.command(convert)
    app.command(suite)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 partly done, 2 an error of the user.

    130 is an interrupt, and 141 a reader of the output that has gone, as `head` has.
    """
    warnings.formatwarning = _format_warning
    words = complete_words(list(sys.argv[1:] if arguments is None else arguments))
    try:
        code = _run(words)
        sys.stdout.flush()  # here, where a broken pipe can still be caught
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return _BROKEN_PIPE
    return code


def complete_words(words: Sequence[str]) -> list[str]:
    """Return the arguments with the value of `--compare` that it has without one."""
    kinds = ("image", "html")
    following = (*words[1:], "")
    return [
        f"{word}={kinds[0]}" if word == "--compare" and after not in kinds else word
        for word, after in zip(words, following, strict=False)
    ]


def _run(words: Sequence[str]) -> int:
    """Run one command, print its errors, and return its exit code."""
    try:
        code = build_app(words)(
            words, result_action="return_value", exit_on_error=False, print_error=True
        )
    except CycloptsError:  # already printed
        return 2
    except KeyboardInterrupt:
        print_line("interrupted", stream=sys.stderr)
        return 130
    except Exception as error:
        explained = _explain(error)
        if explained is None:
            raise
        print_error(explained)
        return 2
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> D2csrError | None:
    """Return an exception as an error that the user can fix, or None if it is a bug of ours."""
    if is_from_out_of_memory(error):
        from d2csr.core.hardware import out_of_memory

        return out_of_memory(error)
    if isinstance(error, D2csrError):
        return error
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        where = shorten(str(error.filename), 100)
        return D2csrError(where, "is too long a name for a file", "Give a shorter one.")
    if isinstance(error, ModuleNotFoundError):
        for extra, modules in _EXTRAS.items():
            if error.name in modules:
                remedy = f"Install it: pip install 'd2csr[{extra}]', or make dev in a clone."
                remedy += _REMARKS.get(extra, "")
                return D2csrError(error.name, "is not installed", remedy)
    return None


def _format_warning(message: Warning | str, *_: object) -> str:
    """Return a warning as one line, without the source line that only a developer needs."""
    return f"warning: {printable(message)}\n"
