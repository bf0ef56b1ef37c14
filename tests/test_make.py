"""The commands that README and CONTRIBUTING name: there, and doing what is said of them."""

import re
import subprocess
from pathlib import Path

import pytest

from d2csr.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md")
PROMISED = ("install", "dev", "demo", "test", "check")


def code_of(page):
    """Return what a page sets as code: blocks and spans."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", rest)])


def dry_run(target):
    """Return the commands of a target and of all it needs, on a machine that has nothing yet."""
    words = ["make", "--dry-run", "--always-make", "--no-print-directory", target]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\\\n", " ").splitlines()


def installs(target):
    return [line for line in dry_run(target) if " -m pip install " in line]


NAMED = sorted({name for page in PAGES for name in re.findall(r"\bmake ([a-z]+)", code_of(page))})


def test_the_pages_name_the_promised_targets():
    assert set(PROMISED) <= set(NAMED)


@pytest.mark.parametrize("target", NAMED)
def test_every_target_named_exists(target):
    assert dry_run(target)


@pytest.mark.parametrize("target", PROMISED)
def test_a_target_makes_its_own_environment_and_pins_what_it_installs(target):
    assert any(" -m venv .venv" in line for line in dry_run(target))
    assert installs(target)
    for line in installs(target):
        assert line.startswith(".venv/bin/python -m pip install ")
        assert " --constraint constraints.txt" in line


@pytest.mark.parametrize("target", ["install", "demo"])
def test_the_core_is_installed_without_torch(target):
    (line,) = installs(target)
    assert line.endswith(" --editable .")  # no extra, and the core's requirements have no torch
    core = re.search(
        r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.M
    )
    assert "torch" not in core[1]
    assert "openvino" in core[1]


@pytest.mark.parametrize("target", ["dev", "test", "check"])
def test_everything_is_installed_with_the_pinned_torch(target):
    torch, rest = installs(target)
    (pinned,) = re.findall(r"^torch==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert torch.endswith(f" {pinned}")
    assert rest.endswith(" --editable '.[dev]'")


def test_demo_enlarges_the_example_with_a_model_that_ships_and_shows_all():
    (line,) = [line for line in dry_run("demo") if "d2csr upscale" in line]
    words = line.split()
    assert words[0] == ".venv/bin/d2csr"
    assert (ROOT / words[words.index("-i") + 1]).is_file()
    model = words[words.index("-n") + 1]
    assert (ROOT / "src/d2csr/weights" / model / "bundle.json").is_file()
    assert {"--bicubic", "--predictions", "--weight-maps", "--disagreement"} <= set(words)


def test_test_is_pytest_over_everything():
    assert dry_run("test")[-1] == ".venv/bin/python -m pytest --numprocesses 2 --dist loadfile"


def test_check_asks_all_four_tools():
    told = "\n".join(dry_run("check"))
    tools = ("ruff format --check", "ruff check", "basedpyright", "lint-imports")
    assert [tool for tool in tools if f".venv/bin/{tool}" not in told] == []


def test_continuous_integration_calls_the_readmes_test_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^```sh\n(make test)\n```", readme, re.MULTILINE)
    script = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert command in script
    assert "make check" in script


def test_every_command_named_exists():
    groups = {"data": app._DATA_COMMANDS, "convert": app._CONVERT_COMMANDS}
    named = re.findall(r"\bd2csr ([a-z]+)(?: ([a-z0-9]+))?", "\n".join(map(code_of, PAGES)))
    assert {"train", "upscale", "evaluate"} <= {command for command, _ in named}
    for command, follower in named:
        assert command in (*app._COMMANDS, *groups)
        if command in groups and follower != "import":
            assert follower in groups[command], f"d2csr {command} {follower}"
