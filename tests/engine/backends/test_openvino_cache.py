"""Compiled graphs on disk: reused, compiled again if damaged, bounded, safe between processes."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from d2csr.engine import open_engine
from d2csr.engine.backends import openvino
from d2csr.engine.backends.openvino import cache_key, read_entry, write_entry

LR01 = np.random.default_rng(0).random((6, 5, 3), np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Return the folder of an empty cache."""
    monkeypatch.setenv("D2CSR_CACHE", str(tmp_path))
    return tmp_path / "graphs"


def test_a_key_depends_on_the_boundaries_of_its_parts():
    keys = {cache_key("ab", "c"), cache_key("a", "bc"), cache_key("abc"), cache_key(b"abc", "")}
    assert len(keys) == 4


def test_an_entry_written_is_read(folder):
    assert read_entry("one") is None
    write_entry("one", b"graph")
    assert read_entry("one") == b"graph"
    assert [path.name for path in folder.iterdir()] == ["one.blob"]


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 40, None])
def test_a_damaged_entry_is_none(folder, damage):
    write_entry("one", b"graph")
    path = folder / "one.blob"
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    assert read_entry("one") is None


def test_the_least_recently_used_entries_are_evicted(folder, monkeypatch):
    monkeypatch.setattr(openvino, "_CACHE_LIMIT_BYTES", 3 * (32 + 10))
    for age, key in enumerate(("old", "older", "oldest")):
        write_entry(key, b"0123456789")
        os.utime(folder / f"{key}.blob", (1000 - age, 1000 - age))
    assert read_entry("oldest")  # used now
    write_entry("new", b"0123456789")
    assert {path.stem for path in folder.iterdir()} == {"old", "oldest", "new"}


def test_a_cache_that_is_not_writable_is_ignored(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("D2CSR_CACHE", str(tmp_path / "file" / "cache"))
    write_entry("one", b"graph")
    assert read_entry("one") is None


def test_a_graph_is_compiled_once_and_then_imported(bundle, folder, monkeypatch):
    first = open_engine(bundle, device="cpu", precision="fp32").run(LR01)
    entries = {path: path.stat().st_ino for path in folder.iterdir()}
    assert len(entries) == 2  # trunk and tail
    monkeypatch.setattr("d2csr.engine.backends.openvino._compile", pytest.fail)
    second = open_engine(bundle, device="cpu", precision="fp32").run(LR01)
    assert np.array_equal(first.sr, second.sr)
    assert {path: path.stat().st_ino for path in folder.iterdir()} == entries


@pytest.mark.parametrize("whole", [True, False], ids=["no blob", "cut"])
def test_a_damaged_graph_is_compiled_again(bundle, folder, whole):
    first = open_engine(bundle, device="cpu", precision="fp32").run(LR01)
    for path in folder.iterdir():
        if whole:  # its checksum is right, but OpenVINO did not write it
            write_entry(path.stem, b"no graph")
        else:
            path.write_bytes(path.read_bytes()[:100])
    damaged = {path: path.stat().st_size for path in folder.iterdir()}
    again = open_engine(bundle, device="cpu", precision="fp32").run(LR01)
    assert np.array_equal(first.sr, again.sr)
    assert all(path.stat().st_size > size for path, size in damaged.items())


def _write_many(key: str, byte: int) -> None:
    for _ in range(30):
        write_entry(key, bytes([byte]) * 100_000)


def test_two_processes_that_write_one_entry_leave_it_whole(folder):
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    writers = [context.Process(target=_write_many, args=("one", byte)) for byte in (1, 2)]
    for each in writers:
        each.start()
    seen = [read_entry("one") for _ in range(200)]
    for each in writers:
        each.join()
    seen.append(read_entry("one"))
    assert seen[-1] is not None
    assert {entry for entry in seen if entry} <= {b"\1" * 100_000, b"\2" * 100_000}
    assert [path.name for path in folder.iterdir()] == ["one.blob"]


def test_two_processes_at_once_fill_one_cache(bundle, folder):
    code = """
import sys, numpy as np
from pathlib import Path
from d2csr.core.bundle import read_bundle
from d2csr.engine import open_engine
lr01 = np.linspace(0, 1, 90, dtype=np.float32).reshape(6, 5, 3)
print(open_engine(read_bundle(Path(sys.argv[1])), device="cpu").run(lr01).sr.sum())
"""
    command = [sys.executable, "-c", code, str(bundle.folder)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [each.communicate()[0] for each in running]
    assert [each.returncode for each in running] == [0, 0]
    assert answers[0] == answers[1]
    assert len(list(folder.iterdir())) == 2
