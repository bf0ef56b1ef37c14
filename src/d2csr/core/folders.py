"""Folders written whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d2csr.core.files import flush_to_disk, refuse_unwritable


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty sibling of `folder`, which takes its place if the block succeeds.

    What stood under the name stays until the new folder is whole and on the disk; if the block
    fails, the sibling is removed.

    Raises:
        UsageError: nothing can be written there.
    """
    refuse_unwritable(folder, folder=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        for file in sorted(beside.rglob("*")):
            flush_to_disk(file)
        flush_to_disk(beside)
        _replace(folder, beside)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _replace(folder: Path, beside: Path) -> None:
    """Rename `beside` to `folder`; a folder that isn't empty can't be renamed over."""
    retired = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(retired, ignore_errors=True)
    if folder.exists():
        folder.rename(retired)
    beside.rename(folder)
    flush_to_disk(folder.parent)
    shutil.rmtree(retired, ignore_errors=True)
