"""A folder run killed at random moments, then resumed; 200 kills: benchmarks/kill_runs.py."""

import random
import subprocess
import sys
import time

import numpy as np
import pytest

from d2csr.core.bundle import Bundle
from d2csr.images.writer import write_rgb8
from d2csr.upscale.journal import JOURNAL_NAME


@pytest.fixture
def command(bundle: Bundle, tmp_path):
    """Return a function: the name of a folder of results -> the command that fills it."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 70, 9, 3), dtype=np.uint8)
    for at, ending in enumerate(("png", "tif", "jpg", "webp", "png")):
        write_rgb8(tmp_path / "in" / str(at % 2) / f"{at}.{ending}", pixels[at])

    def words(out: str) -> list[str]:
        given = ["-i", tmp_path / "in", "-o", tmp_path / out, "-n", bundle.folder]
        options = [*map(str, given), "--ext", "same", "--bicubic", "--resume"]
        return [sys.executable, "-m", "d2csr", "upscale", *options]

    return words


def _contents(folder) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*.*") if path.name[0] != ".")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_after_kills_every_file_is_right_and_none_was_ever_half_written(command, tmp_path):
    started = time.monotonic()
    subprocess.run(command("whole"), check=True, capture_output=True)
    seconds = time.monotonic() - started
    right = _contents(tmp_path / "whole")
    assert len(right) == 10
    draw = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(command("out"), stdout=subprocess.DEVNULL)
        try:
            process.wait(draw.uniform(0.3, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        there = _contents(tmp_path / "out")
        assert [name for name in there if there[name] != right[name]] == []
    subprocess.run(command("out"), check=True, capture_output=True)
    assert _contents(tmp_path / "out") == right
    assert {path.name for path in (tmp_path / "out").rglob(".*")} == {JOURNAL_NAME}


def test_sigterm_ends_a_run_cleanly_and_says_how_to_go_on(bundle: Bundle, command, tmp_path):
    """A large image comes last, so that the signal meets it while it is computed."""
    large = np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), dtype=np.uint8)
    write_rgb8(tmp_path / "in" / "z" / "large.png", large)
    process = subprocess.Popen(command("out"), stderr=subprocess.PIPE, text=True)
    done = tmp_path / "out" / JOURNAL_NAME
    for _ in range(600):
        if done.is_file() and len(done.read_text().splitlines()) == 5:
            break
        time.sleep(0.1)
    process.terminate()
    _, told = process.communicate()
    assert process.returncode == 130
    assert told.startswith("interrupted: 5 images enlarged x2 by tiny in ")
    assert "--resume" in told
    assert len(_contents(tmp_path / "out")) == 10
    assert [path.name for path in (tmp_path / "out").rglob(".*")] == [JOURNAL_NAME]
