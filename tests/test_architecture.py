"""The shape of the code: who imports whom, what needs torch, and whether the file list is true."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "d2csr"
FILES = sorted(PACKAGE.rglob("*.py"))
TORCH_FREE = {
    "align", "core", "data", "engine", "evaluation", "figures", "images", "metrics", "simulate",
    "speed", "upscale",
}  # fmt: skip
NEEDS_TORCH = ("d2csr.engine.backends.pytorch",)


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    """Return the script that writes the file list."""
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "docs/architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_import_follows_the_contracts():
    answer = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports as go; exit(go())"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_contract_names_every_room_that_must_do_without_torch():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    (contract,) = [entry for entry in contracts if "torch" in entry.get("forbidden_modules", ())]
    named = {module.removeprefix("d2csr.") for module in contract["source_modules"]}
    assert named == TORCH_FREE & _rooms()


def test_no_torch_is_loaded_where_none_is_needed():
    """The contracts read the code; this runs it, third parties included."""
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; "
    code += "sys.exit('torch' in sys.modules)"
    names = [_module(file) for file in FILES]
    free = [name for name in names if name.partition(".")[2].split(".")[0] in TORCH_FREE]
    command = [sys.executable, "-c", code, *(name for name in free if name not in NEEDS_TORCH)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr or "torch was imported"


def test_the_file_list_of_the_architecture_page_is_true(writer):
    page = writer.PAGE.read_text(encoding="utf-8")
    assert writer.render(page) == page, "run `make docs`"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_every_file_opens_with_one_sentence(file, writer):
    opening = writer.opening(file)
    assert opening.endswith(".")
    assert not opening.startswith(("This ", "Contains ", "Module "))


def _rooms() -> set[str]:
    folders = {init.parent.name for init in PACKAGE.glob("*/__init__.py")}
    return folders | {file.stem for file in PACKAGE.glob("*.py") if not file.stem.startswith("_")}


def _module(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")
