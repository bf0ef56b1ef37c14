"""The command line as a whole: help, exit codes, and where errors are printed."""

import importlib
import os
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from d2csr import __version__
from d2csr.cli import app
from d2csr.core.errors import D2csrError

HEAVY = ("numpy", "openvino", "pydantic", "pyvips", "torch")
TABLES = (
    app._COMMANDS, app._DATA_COMMANDS, app._IMPORT_COMMANDS, app._CONVERT_COMMANDS,
    app._SUITE_COMMANDS,
)  # fmt: skip
PATHS = [path for table in TABLES for path, _ in table.values()]


def _broken(error: BaseException):
    """Return a command that fails with `error`."""

    def command() -> int:
        raise error

    return command


@pytest.fixture
def failing(monkeypatch):
    """Return a function that puts a failing command in the place of `doctor`."""
    module = importlib.import_module("d2csr.cli.doctor")
    return lambda error: monkeypatch.setattr(module, "doctor", _broken(error))


def test_help_names_every_command(d2csr):
    answer = d2csr("--help")
    assert answer.code == 0
    assert [
        name for name in (*app._COMMANDS, "data", "convert", "suite") if name not in answer.out
    ] == []


def test_help_loads_nothing_heavy():
    code = "import sys; from d2csr.cli.app import main; main(['--help']); "
    code += f"sys.exit(' '.join(name for name in {HEAVY!r} if name in sys.modules) or None)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_help_is_quick():
    """0.14 s when measured on an idle core; the best of several, as load slows some."""
    assert min(_processor_seconds("--help") for _ in range(5)) < 0.5  # room for slower machines


def test_version_is_printed(d2csr):
    assert d2csr("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ("upscale", "-i", "NAME", "-o", "out"),
        ("upscale", "-i", "examples/city100_nikon_001_lr3.png", "-o", "NAME"),
        ("upscale", "-i", "examples/city100_nikon_001_lr3.png", "-o", "out", "-n", "NAME"),
        ("data", "check", "NAME"),
        ("train", "NAME.yaml", "-o", "out"),
        ("evaluate", "-n", "NAME", "--data", "NAME"),
    ],
    ids=" ".join,
)
def test_a_name_too_long_for_a_file_is_an_error_in_one_line(d2csr, words):
    answer = d2csr(*(word.replace("NAME", "a" * 256) for word in words))
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert len(answer.err) < 600


def test_a_warning_is_one_line_without_source():
    code = "import sys, warnings; from d2csr.cli.app import main; main(['--version']); "
    code += "warnings.warn('no cache is kept')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stderr == "warning: no cache is kept\n"


@pytest.mark.parametrize("path", PATHS)
def test_every_command_is_where_the_table_says(path):
    module, _, name = path.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(
    "words",
    [
        *([name, "--help"] for name in app._COMMANDS),
        *(["data", name, "--help"] for name in app._DATA_COMMANDS),
        ["data", "import", "city100", "--help"],
        ["convert", "official", "--help"],
        *(["suite", name, "--help"] for name in app._SUITE_COMMANDS),
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(d2csr, words):
    answer = d2csr(*words)
    assert answer.code == 0
    assert f"Usage: d2csr {' '.join(words[:-1])}" in answer.out


def test_a_flag_has_no_opposite(d2csr):
    """`--resume` alone: what a flag turns on is off without it."""
    assert "--no-" not in d2csr("train", "--help").out


def test_a_command_is_explained_by_its_whole_docstring(d2csr):
    text = " ".join(d2csr("doctor", "--help").out.split())
    assert (
        "Exit code: 0 if everything works (optional parts may be absent), 1 if an optional" in text
    )


def test_an_error_of_the_user_is_one_line_and_exit_2(d2csr, failing):
    failing(D2csrError("photo.png", "is empty", remedy="Copy it again."))
    answer = d2csr("doctor")
    assert answer == (2, "", "error: photo.png: is empty. Copy it again.\n")


def test_a_missing_extra_is_one_line_that_names_it(d2csr, failing):
    failing(ModuleNotFoundError("No module named 'torch'", name="torch"))
    answer = d2csr("doctor")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(
        "error: torch: is not installed. Install it: pip install 'd2csr[train]'"
    )
    assert answer.err.count("\n") == 1


def test_a_module_of_ours_that_is_missing_keeps_its_traceback(d2csr, failing):
    failing(ModuleNotFoundError("No module named 'd2csr.gone'", name="d2csr.gone"))
    with pytest.raises(ModuleNotFoundError):
        d2csr("doctor")


def test_every_extra_that_is_named_exists():
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = pyproject["project"]["optional-dependencies"]
    modules = {
        "opencv-python-headless": "cv2",
        "huggingface-hub": "huggingface_hub",
    }  # where the package is called otherwise
    packages = {extra: {text.split(">=")[0] for text in extras[extra]} for extra in app._EXTRAS}
    named = {extra: {modules.get(each, each) for each in packages[extra]} for extra in packages}
    assert named == app._EXTRAS


def test_a_missing_torch_is_answered_with_the_builds_there_are(d2csr, failing):
    failing(ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert "without such a GPU, install the build for CPUs first" in d2csr("doctor").err


@pytest.mark.parametrize("words", ["models", "--help", "train --example", "upscale --help"])
def test_a_reader_that_has_gone_ends_the_command_without_a_word(words):
    """As in `d2csr models | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "d2csr", *words.split()]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode in {1, 141}  # 1: rich, which prints help, exits by itself


def test_an_interrupt_is_exit_130(d2csr, failing):
    failing(KeyboardInterrupt())
    assert d2csr("doctor") == (130, "", "interrupted\n")


def test_an_interrupt_while_the_libraries_are_loaded_is_exit_130(tmp_path):
    """Ctrl-C at once used to print the traceback of an import."""
    (tmp_path / "cyclopts.py").write_text("raise KeyboardInterrupt\n")
    path = os.pathsep.join((str(tmp_path), *sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "d2csr", "models"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_failed_allocation_anywhere_is_one_line_about_memory(d2csr, failing):
    """Code that fails for lack of memory takes its file for damaged."""
    damaged = D2csrError("model", "is damaged", remedy="Copy it again.")
    damaged.__cause__ = MemoryError()
    for error in (MemoryError(), ImportError("libx.so: failed to map segment"), damaged):
        failing(error)
        answer = d2csr("doctor")
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert " of memory is free" in answer.err
        assert "Copy" not in answer.err


@pytest.mark.parametrize("limit_mb", [150, 300])
def test_an_address_space_too_small_is_one_line_about_memory(limit_mb, tmp_path):
    """At 300 MB glib, a library of libvips, ended the process."""
    limit = limit_mb * 10**6
    done = subprocess.run(
        [sys.executable, "-m", "d2csr", "upscale", "-i", __file__, "-o", tmp_path / "out"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: memory: ")
    assert "Raise the limit" in done.stderr


def test_a_bug_of_ours_keeps_its_traceback(d2csr, failing):
    failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        d2csr("doctor")


@pytest.mark.parametrize("words", [["doktor"], ["doctor", "--nonsense"]], ids=" ".join)
def test_wrong_words_are_one_line_and_exit_2(d2csr, words):
    answer = d2csr(*words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert len(answer.err.splitlines()) == 1


def test_python_m_runs_the_same_command_line():
    command = [sys.executable, "-m", "d2csr", "--version"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout) == (0, f"{__version__}\n")


def _processor_seconds(*words: str) -> float:
    """Return the work of a fresh process, which other processes' load doesn't lengthen."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "d2csr", *words], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
