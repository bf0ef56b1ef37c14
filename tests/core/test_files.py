"""Files and folders written completely or not at all."""

import hashlib
import os
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import pytest

from d2csr.core.errors import UsageError
from d2csr.core.files import (
    atomic_folder,
    atomic_path,
    backup_path,
    cache_folder,
    check_writable,
    is_file,
    is_folder,
    read_regular,
    remove_stale_temp_files,
    scratch_folder,
    sha256_file,
    write_atomically,
)


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "weights.bin"
    write_atomically(path, b"old")
    with pytest.raises(RuntimeError, match="power"):
        _fail_while_writing(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def _fail_while_writing(path):
    with atomic_path(path) as beside:
        beside.write_bytes(b"half of the new")
        raise RuntimeError("power")


def test_a_file_is_replaced_whole_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "c.json"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("place", ["file/x.json", "file/deep/x.json", "folder"])
def test_a_path_where_no_file_can_be_is_refused_and_nothing_is_created(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=place):
        write_atomically(tmp_path / place, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="has no /proc")
def test_a_system_folder_is_refused_whoever_asks():
    with pytest.raises(UsageError, match="/proc: "):
        check_writable(Path("/proc/a/b"), folder=True)


def test_the_sibling_keeps_the_suffix_that_writers_choose_formats_by(tmp_path):
    with atomic_path(tmp_path / "picture.webp") as beside:
        assert beside.suffix == ".webp"
        assert beside.parent == tmp_path
        beside.write_bytes(b"")


def test_the_hash_is_that_of_the_contents(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_file(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_the_cache_folder_is_the_one_the_environment_names(monkeypatch, tmp_path):
    monkeypatch.setenv("D2CSR_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("D2CSR_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "d2csr"


@pytest.fixture(params=["missing", "a file", "home missing", "unknown user"])
def unusable_cache(request, tmp_path, monkeypatch):
    """Let the cache be one that can't be created, and return a part of the reason."""
    (tmp_path / "file").touch()
    if request.param == "missing":
        monkeypatch.setenv("D2CSR_CACHE", "/proc/none/cache")
        return "/proc/none/cache: "
    if request.param == "a file":
        monkeypatch.setenv("D2CSR_CACHE", str(tmp_path / "file" / "cache"))
        return "Not a directory"
    monkeypatch.delenv("D2CSR_CACHE", raising=False)
    if request.param == "home missing":
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
        return "~/.cache/d2csr: "
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 54321)  # of no user in /etc/passwd
    return "home directory"


def test_a_cache_that_cannot_be_made_is_replaced_by_a_temporary_one_once(unusable_cache):
    with pytest.warns(UserWarning, match="no cache is kept") as told:
        folder = cache_folder()
    assert unusable_cache in str(told[0].message)
    write_atomically(folder / "graphs" / "a.blob", b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache_folder() == folder


def test_the_temporary_cache_is_removed_at_the_end_of_the_process():
    code = "from d2csr.core.files import cache_folder; print(cache_folder())"
    command = [sys.executable, "-W", "ignore", "-c", code]
    environment = os.environ | {"D2CSR_CACHE": "/proc/none"}
    folder = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    assert Path(folder).name.startswith("d2csr-cache-")
    assert not Path(folder).exists()


@pytest.fixture
def fifo(tmp_path):
    """Return a pipe that nobody writes into: to open it for reading would block for ever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.timeout(5)
def test_what_is_no_file_is_refused_at_once(tmp_path, fifo):
    (tmp_path / "endless").symlink_to("/dev/zero")
    for path in (fifo, tmp_path / "endless", tmp_path):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            sha256_file(path)


def test_a_file_over_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_regular(path, max_bytes=5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(path, max_bytes=4)
    with pytest.raises(OSError, match="No such file"):
        read_regular(tmp_path / "none", max_bytes=4)


def test_reading_allocates_the_file_and_not_the_limit(tmp_path):
    """A cached graph of some kB took the 512 MiB that an entry may have."""
    (tmp_path / "x").write_bytes(b"12345")
    tracemalloc.start()
    read_regular(tmp_path / "x", max_bytes=1 << 29)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_file_without_a_stated_size_is_read_whole():
    """The kernel states 0 bytes for these, as for a file that another process appends to."""
    path = Path("/proc/self/cmdline")
    assert read_regular(path, max_bytes=1 << 20) == path.read_bytes()
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(path, max_bytes=4)


@pytest.mark.parametrize("name", ["a" * 256, "a" * 5000, "\0", "/dev/null/x"])
def test_any_text_can_be_asked_for_as_a_path(name):
    assert not is_file(Path(name))
    assert not is_folder(Path(name))


def test_temporary_files_of_killed_processes_are_removed_and_of_living_ones_kept(tmp_path):
    writing = """
import sys, time
from pathlib import Path
from d2csr.core.files import atomic_path
with atomic_path(Path(sys.argv[1])) as beside:
    beside.write_bytes(b"half")
    print("there", flush=True)
    time.sleep(60)
"""
    (tmp_path / "deep").mkdir()
    (tmp_path / ".d2csr-somewhere-12-ab.png").write_bytes(b"of another machine")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", writing, str(tmp_path / "deep" / f"{name}.png")],
            stdout=subprocess.PIPE,
        )
        for name in ("dead", "alive")
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        processes[0].kill()
        processes[0].wait()
        assert len(list((tmp_path / "deep").iterdir())) == 2
        remove_stale_temp_files(tmp_path)
        (left,) = (tmp_path / "deep").iterdir()
        assert f"-{processes[1].pid}-" in left.name
        assert (tmp_path / ".d2csr-somewhere-12-ab.png").exists()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_the_first_file_in_a_folder_removes_what_killed_processes_left_there(tmp_path):
    """`data import`, killed and run again, left the half of an image for ever."""
    writing = """
import os, sys
from pathlib import Path
from d2csr.core.files import atomic_path
with atomic_path(Path(sys.argv[1])) as beside:
    beside.write_bytes(b"half")
    os._exit(9)
"""
    subprocess.run([sys.executable, "-c", writing, str(tmp_path / "a.png")], check=False)
    (half,) = tmp_path.iterdir()
    assert half.name.startswith(".d2csr-")
    write_atomically(tmp_path / "a.png", b"whole")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]


def test_a_folder_is_replaced_with_all_its_contents(tmp_path):
    folder = tmp_path / "model.v2"
    for name in ("one", "two"):
        with atomic_folder(folder) as temporary:
            (temporary / name).write_text(name)
            assert temporary.parent == folder.parent
    assert [path.name for path in folder.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failure_while_filling_a_folder_leaves_the_old_one_and_nothing_else(tmp_path):
    folder = tmp_path / "model"
    with atomic_folder(folder) as temporary:
        (temporary / "weights").write_text("old")
    with pytest.raises(RuntimeError, match="power"):
        _fail_while_filling(folder)
    assert (folder / "weights").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def _fail_while_filling(folder):
    with atomic_folder(folder) as temporary:
        (temporary / "weights").write_text("half of the new")
        raise RuntimeError("power")


def test_the_next_folder_removes_those_of_killed_processes(tmp_path):
    filling = """
import os, sys
from pathlib import Path
from d2csr.core.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as temporary:
    (temporary / "weights").write_text("half")
    os._exit(9)
"""
    folder = tmp_path / "model"
    backup_path(folder).mkdir()  # of a process killed between two renames
    subprocess.run([sys.executable, "-c", filling, str(folder)])
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_folder(folder) as temporary:
        (temporary / "weights").write_text("whole")
        assert len(list(tmp_path.iterdir())) == 2
    assert (folder / "weights").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [folder]


def test_the_previous_folder_is_at_its_backup_path_if_the_rename_fails(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    with atomic_folder(folder) as temporary:
        (temporary / "weights").write_text("old")
    rename = Path.rename

    def rename_old_only(self, target):
        if self != folder:
            raise OSError("killed here")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_old_only)
    with pytest.raises(OSError, match="killed here"), atomic_folder(folder):
        pass
    assert (backup_path(folder) / "weights").read_text() == "old"


def test_a_scratch_folder_is_private_and_removed_also_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from d2csr.core.files import scratch_folder
with scratch_folder() as folder:
    (folder / "photo.jpg").write_bytes(b"private")
    os._exit(9)
"""
    subprocess.run([sys.executable, "-c", killed, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    with scratch_folder() as folder:
        assert not left.exists()
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "a").mkdir()
        (folder / "a" / "b").write_bytes(b"")
    assert list(tmp_path.iterdir()) == []
