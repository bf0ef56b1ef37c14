"""Pairs over a Ray cluster of two workers, one of them killed in mid-run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from d2csr.align.build import WORK_NAME, Workers, align_folder, build_dataset
from d2csr.align.dataset import DatasetLayout
from d2csr.align.pairing import find_pairs
from d2csr.align.steps import Settings
from d2csr.core.errors import UsageError

SETTINGS, LAYOUT = Settings(scale=3), DatasetLayout(scale=3)


def children(parent: int) -> list[int]:
    """Process ids of a process' children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def workers_of(process: int) -> list[int]:
    """Workers that Ray runs for a process: children of its children, called by their class."""
    below = [grandchild for child in children(process) for grandchild in children(child)]
    named = []
    for pid in below:
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"AlignWorker.run" in title:
            named.append(pid)
    return named


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra `cluster`)")
def test_two_workers_one_killed_give_the_same_set_as_one_process(captures, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("001", "002", "003"):
        for end in ("wide", "tele"):
            source = captures / f"{'001' if name == '003' else name}_{end}.jpg"
            shutil.copy(source, photos / f"{name}_{end}.jpg")
    (photos / "003_tele.jpg").write_bytes((captures / "001_tele.jpg").read_bytes()[:9000])
    align_folder(photos, tmp_path / "one", settings=SETTINGS, layout=LAYOUT, workers=Workers(1))

    out = tmp_path / "many"
    words = ["align", str(photos), "-o", str(out), "-s", "3", "--executor", "ray", "--workers", "2"]
    quiet = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    killed = 0
    with subprocess.Popen([sys.executable, "-m", "d2csr", *words], env=quiet) as process:
        while process.poll() is None and not killed:
            for pid in workers_of(process.pid)[:1]:
                os.kill(pid, signal.SIGKILL)
                killed = pid
            time.sleep(0.02)
    assert killed
    assert process.returncode == 1  # for the damaged one
    assert contents(out) == contents(tmp_path / "one")


def test_without_ray_the_extra_is_named(captures, tmp_path, monkeypatch):
    monkeypatch.setattr("d2csr.core.parallel.find_spec", lambda _name: None)
    found = find_pairs(captures, scale=3)
    with pytest.raises(UsageError, match=r"ray isn't installed.*d2csr\[cluster\]"):
        build_dataset(
            found, tmp_path / "out", settings=SETTINGS, layout=LAYOUT, workers=Workers(1, "ray")
        )
    assert not (tmp_path / "out" / WORK_NAME).exists()
