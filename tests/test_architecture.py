"""The shape of the code: who imports whom, what needs torch, and whether the file list is true."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "d2csr"
FILES = sorted(PACKAGE.rglob("*.py"))
TORCH_FREE = {
    "align", "core", "data", "engine", "evaluation", "figures", "images", "metrics", "simulate",
    "speed", "upscale", "web",
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


# Modules and functions of a size that one can read at once.
MODULES_AT_MOST = 215
MODULE_LINES = (60, 400)
FUNCTION_LINES_AT_MOST = 40
REASON = "Separate "  # how the docstring of a smaller module begins its reason


def test_there_are_no_more_modules_than_agreed():
    """Not counted: `__init__.py` and `__main__.py`, which say what a package is."""
    assert len([file for file in FILES if not file.name.startswith("__")]) <= MODULES_AT_MOST


def test_no_module_is_long_and_a_short_one_gives_its_reason():
    least, most = MODULE_LINES
    wrong = []
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        lines = text.count("\n")
        reason = REASON in (ast.get_docstring(ast.parse(text)) or "")
        if lines > most or (lines < least and not reason and not file.name.startswith("__")):
            wrong.append(f"{file.relative_to(PACKAGE)}: {lines} lines")
    assert wrong == []


def _functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{file.relative_to(PACKAGE)}: {node.name}", node


def test_no_function_is_over_40_lines():
    assert [
        name
        for name, node in _functions()
        if (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_AT_MOST
    ] == []


def test_docstrings_name_what_is_returned():
    """`Return the PSNR of ...`, not `Return what ...`."""
    vague = re.compile(r"Return (what|how|where|which|who|why)\b")
    assert [name for name, node in _functions() if vague.match(ast.get_docstring(node) or "")] == []


# Words that this project used for something that has a standard name.
RETIRED = {
    r"errands?": "job",
    r"conveyors?": "queue",
    r"tellers?": "reporter",
    r"kept_of|class Kept": "metadata",
    r"carriers?": "row stream",
    r"faults?": "error",
    r"pictures?": "image; chart",
    r"likeness": "similarity",
    r"dressed": "with metadata",
    r"couples?": "pair",
    r"anew": "again",
    r"mends?|mended|mending": "fix",
    r"so-manieth": "n-th",
    r"to be had": "available",
    r"short-sighted": "finite receptive field",
}


# Keys of older files, which are still read: `"pictures": "images"`.
KEY_OF_VERSION_1 = re.compile(r'"\w+"(?=: "\w+")')


@pytest.mark.parametrize("word", RETIRED)
def test_a_retired_word_is_not_used(word: str):
    pages = [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "docs").glob("*.py"))]
    pattern = re.compile(rf"(?<![\w.])({word})(?![\w-])", re.IGNORECASE)
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in (*FILES, *pages, ROOT / "README.md")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(KEY_OF_VERSION_1.sub("", line).replace("_", " "))
    ]
    assert found == [], f"say {RETIRED[word]}"


def test_tests_mirror_the_package():
    """`tests/ROOM/test_MODULE.py` or `test_MODULE_TOPIC.py` tests `src/d2csr/ROOM/MODULE.py`."""
    rooms = {file.parent.relative_to(PACKAGE) for file in FILES if file.parent != PACKAGE}
    stray = []
    for room in rooms:
        modules = [file.stem for file in (PACKAGE / room).glob("*.py")]
        for test in (ROOT / "tests" / room).glob("test_*.py"):
            subject = f"{test.stem.removeprefix('test_')}_"
            if not any(subject.startswith(f"{module}_") for module in modules):
                stray.append(str(test.relative_to(ROOT)))
    assert stray == []


STEP = re.compile(r"^\d+\. `([\w/]+\.py)`, `(\w+)(?:\.(\w+))?`", re.MULTILINE)


@pytest.mark.parametrize(("walk", "at_most"), [("One image", 8), ("One pair", 12)])
def test_the_walks_of_the_architecture_page_name_what_exists(walk: str, at_most: int):
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {walk}.*?(?=^## )", page, re.MULTILINE | re.DOTALL)
    steps = STEP.findall(section)
    assert 4 <= len({file for file, _, _ in steps}) <= at_most
    assert len(re.findall(r"^\d+\. ", section, re.MULTILINE)) == len(steps)
    for file, name, member in steps:
        tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
        (node,) = [each for each in tree.body if getattr(each, "name", None) == name]
        names = {getattr(each, "name", None) for each in ast.walk(node)}
        assert not member or member in names, f"{file}: {name}.{member}"
