"""The file list in `architecture.md`, written from the first lines of the docstrings."""

import ast
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).with_name("architecture.md")
PACKAGE = Path(__file__).resolve().parent.parent / "src" / "d2csr"
BEGIN = "<!-- files: made by `make docs` from the opening docstrings; do not edit -->"
END = "<!-- files: end -->"

# In the order in which data flows; rooms that are missing here come last.
ROOMS = (
    "core", "images", "align", "simulate", "data", "models", "systems", "losses", "metrics",
    "checkpoint", "training", "evaluation", "export", "engine", "upscale", "web", "speed",
    "suites", "figures", "cli",
)  # fmt: skip


def render(page: str, *, package: Path = PACKAGE) -> str:
    """Return `page` with the file list of `package` between its two markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    files = "\n".join(_lines(package))
    return f"{before}{BEGIN}\n\n{files}\n\n{END}{after}"


def opening(file: Path) -> str:
    """Return the first line of a file's docstring; empty where it has none."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    return docstring.splitlines()[0] if docstring else ""


def _lines(package: Path) -> Iterator[str]:
    """Yield the lines of the list: first the files of the package itself, then room by room."""
    for file in sorted(package.glob("*.py")):
        if file.name != "__init__.py":
            yield f"- `{file.name}`: {opening(file)}"
    for room in sorted(_rooms(package), key=_position):
        yield from ("", f"### {room.name}/", "", opening(room / "__init__.py"), "")
        for file in sorted(room.rglob("*.py")):
            if file.name != "__init__.py":
                yield f"- `{file.relative_to(room)}`: {opening(file)}"


def _rooms(package: Path) -> Iterator[Path]:
    """Yield the packages directly inside `package`."""
    return (folder.parent for folder in package.glob("*/__init__.py"))


def _position(room: Path) -> tuple[int, str]:
    """Return the sort key of a room in the list."""
    return (ROOMS.index(room.name) if room.name in ROOMS else len(ROOMS), room.name)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
