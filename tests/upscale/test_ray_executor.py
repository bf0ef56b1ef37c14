"""A folder over a Ray cluster of two workers, one of them killed in mid-run."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from d2csr.core.bundle import Bundle
from d2csr.core.errors import UsageError
from d2csr.images.writer import write_rgb8
from d2csr.upscale.journal import JOURNAL_NAME, Journal
from d2csr.upscale.options import BatchOptions, OutputOptions
from d2csr.upscale.run import upscale_files


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra `cluster`)")
def test_two_workers_one_killed_give_the_same_files_as_one_process(bundle: Bundle, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 40, 50, 3), dtype=np.uint8)
    for at in range(8):
        write_rgb8(tmp_path / "in" / str(at % 2) / f"{at}.png", pixels[at])
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    wanted = OutputOptions(bicubic=True)
    upscale_files([tmp_path / "in"], tmp_path / "one", model=bundle, options=wanted)

    words = ["-i", tmp_path / "in", "-o", tmp_path / "many", "-n", bundle.folder, "--bicubic"]
    command = [sys.executable, "-m", "d2csr", "upscale", *map(str, words), "--json"]
    ray_options = ["--executor", "ray", "--workers", "2"]
    quiet = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    records = []
    with subprocess.Popen(
        [*command, *ray_options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=quiet
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            records.append(json.loads(line))
            if len(records) == 1:
                os.kill(records[0]["worker"], signal.SIGKILL)  # it has its next image by now
    assert process.returncode == 1  # for the bad one
    failed = [each["input"] for each in records if each.get("status") == "failed"]
    assert failed == [str(tmp_path / "in" / "bad.png")]
    workers = {each["worker"] for each in records if each.get("status") == "done"}
    assert len(workers) >= 2
    assert _contents(tmp_path / "many") == _contents(tmp_path / "one")
    assert len(_contents(tmp_path / "one")) == 16

    # the same list: a run in one process finds nothing to do but the bad one
    summary = upscale_files(
        [tmp_path / "in"],
        tmp_path / "many",
        model=bundle,
        options=wanted,
        batch=BatchOptions(resume=True),
    )
    assert (summary.unchanged, len(summary.errors)) == (8, 1)


def test_without_ray_the_extra_is_named(bundle: Bundle, tmp_path, monkeypatch):
    write_rgb8(tmp_path / "a.png", np.zeros((5, 5, 3), np.uint8))
    monkeypatch.setattr("d2csr.core.parallel.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"ray isn't installed.*d2csr\[cluster\]"):
        upscale_files(
            [tmp_path], tmp_path / "out", model=bundle, batch=BatchOptions(executor="ray")
        )


def test_ray_is_not_imported_unless_asked_for(bundle: Bundle, tmp_path):
    write_rgb8(tmp_path / "a.png", np.zeros((5, 5, 3), np.uint8))
    code = (
        "import sys; sys.modules['ray'] = sys.modules['fsspec'] = None;"
        "from d2csr.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["upscale", "-i", tmp_path / "a.png", "-o", tmp_path / "out", "-n", bundle.folder]
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True)
    assert Journal(tmp_path / "out").find("a.png") is not None


def _contents(folder) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*.*") if path.name != JOURNAL_NAME)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
