"""The list file of the method's authors: a line a pair, the LR path, a space, the HR path."""

from pathlib import Path

from d2csr.core.errors import DataError
from d2csr.data.layouts import Found, camera_of, split_of
from d2csr.data.parallel import shared_name

FORMAT = "Each line holds two paths, LR and HR, with a space or a tab between."


def read_list(path: Path) -> list[Found]:
    """Return the pairs a list file names; relative paths are relative to the file.

    The authors' code cuts HR pictures to a multiple of the scale, and so do we.

    Raises:
        DataError: the file is no text, or lines don't hold two paths; all are named.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = "can't be read as a list of pairs"
        raise DataError(path, problem, remedy=FORMAT) from error
    filled = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    split = [(number, _two_paths(line, path.parent)) for number, line in filled]
    if wrong := [str(number) for number, paths in split if paths is None]:
        problem = f"line {', '.join(wrong)}: not two paths"
        raise DataError(path, problem, remedy=FORMAT)
    return [
        _found(*paths, folder=path.absolute().parent) for _, paths in split if paths is not None
    ]


def _two_paths(line: str, folder: Path) -> tuple[Path, Path] | None:
    """Return the two paths of a line; among several cuts, the one at which both files exist."""
    cuts = [line.split("\t")] if "\t" in line else _cuts(line.split(" "))
    paths = [(folder / lr.strip(), folder / hr.strip()) for lr, hr in _pairs_only(cuts)]
    there = [both for both in paths if both[0].is_file() and both[1].is_file()]
    if there:
        return there[0]
    return paths[0] if len(paths) == 1 else None


def _cuts(words: list[str]) -> list[list[str]]:
    return [[" ".join(words[:at]), " ".join(words[at:])] for at in range(1, len(words))]


def _pairs_only(cuts: list[list[str]]) -> list[tuple[str, str]]:
    return [(cut[0], cut[1]) for cut in cuts if len(cut) == 2 and all(part.strip() for part in cut)]


def _found(lr: Path, hr: Path, *, folder: Path) -> Found:
    top = folder if lr.is_relative_to(folder) else lr.parent
    name = shared_name(lr, hr)
    return Found(name, split_of(lr, top), camera_of(lr, top), None, lr, hr, cut=True)
