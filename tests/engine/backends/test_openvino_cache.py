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


def test_an_entry_under_another_key_is_none(folder):
    write_entry("one", b"graph")
    (folder / "one.blob").rename(folder / "two.blob")
    assert read_entry("two") is None


@pytest.mark.timeout(5)
@pytest.mark.parametrize("kind", ["pipe", "link to /dev/zero", "folder", "huge"])
def test_what_is_no_entry_is_none_and_is_replaced(folder, kind):
    folder.mkdir()
    path = folder / "one.blob"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)  # a hole: takes no disk
    else:
        path.symlink_to("/dev/zero")
    assert read_entry("one") is None
    write_entry("one", b"graph")
    assert read_entry("one") == (None if kind == "folder" else b"graph")


def test_the_least_recently_used_entries_are_evicted(folder, monkeypatch):
    monkeypatch.setattr(openvino, "_CACHE_LIMIT_BYTES", 3 * (32 + 10))
    for age, key in enumerate(("old", "older", "oldest")):
        write_entry(key, b"0123456789")
        os.utime(folder / f"{key}.blob", (1000 - age, 1000 - age))
    assert read_entry("oldest")  # used now
    write_entry("new", b"0123456789")
    assert {path.stem for path in folder.iterdir()} == {"old", "oldest", "new"}


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


def test_a_graph_of_another_role_in_the_cache_is_compiled_again(bundle, folder):
    first = open_engine(bundle, device="cpu", precision="fp32").run(LR01)
    one, other = folder.iterdir()
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    again = open_engine(bundle, device="cpu", precision="fp32").run(LR01)
    assert np.array_equal(first.sr, again.sr)
    assert (one.read_bytes(), other.read_bytes()) != (contents[1], contents[0])


def test_a_model_runs_without_a_cache_and_warns_once(bundle, tmp_path):
    """A user without a home, as in a container, and a variable that names no possible folder."""
    code = """
import sys, numpy as np
from pathlib import Path
from d2csr.core.bundle import read_bundle
from d2csr.engine import open_engine
engine = open_engine(read_bundle(Path(sys.argv[1])), device="cpu")
print(engine.run(np.ones((6, 5, 3), np.float32)).sr.sum())
"""
    command = [sys.executable, "-c", code, str(bundle.folder)]
    runs = [
        subprocess.run(
            command, env=os.environ | {"D2CSR_CACHE": cache}, capture_output=True, text=True
        )
        for cache in (str(tmp_path), "/proc/none/cache")
    ]
    assert [run.returncode for run in runs] == [0, 0], runs
    assert runs[0].stdout == runs[1].stdout
    assert [run.stderr.count("no cache is kept") for run in runs] == [0, 1]


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
