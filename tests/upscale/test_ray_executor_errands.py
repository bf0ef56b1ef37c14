"""Errands from object storage to object storage, in fsspec's memory; without Ray."""

from contextlib import closing
from dataclasses import replace

import fsspec
import numpy as np
import pytest

from d2csr.core.bundle import CARD_NAME, Bundle
from d2csr.core.errors import ImageError, UsageError
from d2csr.images.writer import write_rgb8
from d2csr.upscale.journal import LIST_NAME, JournalEntry
from d2csr.upscale.options import DEFAULT_COMPUTE, OutputOptions
from d2csr.upscale.ray_executor import RemoteJob, RemoteJournal, UpscaleWorker, plan_remote_jobs
from d2csr.upscale.run import run_fingerprint, upscale_files
from d2csr.upscale.storage import download, list_images, reject_urls

LR8 = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
BICUBIC = OutputOptions(bicubic=True)


@pytest.fixture
def bucket(tmp_path):
    """Return fsspec's memory with an image, a hidden one, and a note; also in a folder."""
    write_rgb8(tmp_path / "in" / "deep" / "a.png", LR8)
    memory = fsspec.filesystem("memory")
    memory.put_file(str(tmp_path / "in" / "deep" / "a.png"), "/bucket/in/deep/a.png")
    memory.pipe_file("/bucket/in/.b.png", b"hidden")
    memory.pipe_file("/bucket/in/note.txt", b"no image")
    yield memory
    memory.rm("/bucket", recursive=True)


def _plan(inputs, bundle: Bundle, *, out: str = "memory://bucket/out"):
    return plan_remote_jobs(inputs, out, wanted=BICUBIC, bundle=bundle)


def test_an_errand_makes_the_files_that_a_run_here_makes(
    bundle: Bundle, bucket, tmp_path, monkeypatch
):
    monkeypatch.setenv("D2CSR_CACHE", str(tmp_path / "cache"))
    errands, errors = _plan(["memory://bucket/in"], bundle)
    assert ([each.place for each in errands], errors) == (["deep/a.png"], [])
    settings = run_fingerprint(bundle, BICUBIC, compute=DEFAULT_COMPUTE)
    names = [CARD_NAME, *bundle.card.files]
    files = {name: (bundle.folder / name).read_bytes() for name in names}
    runner = UpscaleWorker(files, "memory://bucket/out", wanted=BICUBIC, compute=DEFAULT_COMPUTE)
    answer = runner.run(errands[0], settings)
    assert answer.report.status == "done"
    assert answer.report.target == "memory://bucket/out/deep/a.png"

    upscale_files([tmp_path / "in"], tmp_path / "out", bundle=bundle, wanted=BICUBIC)
    for name in ("deep/a.png", "deep/a_bicubic.png"):
        assert bucket.cat_file(f"/bucket/out/{name}") == (tmp_path / "out" / name).read_bytes()

    noted = RemoteJournal("memory://bucket/out")
    assert isinstance(answer.done, JournalEntry)
    noted.append(answer.done)
    noted.close()
    here = (tmp_path / "out" / LIST_NAME).read_bytes()
    assert bucket.cat_file(f"/bucket/out/{LIST_NAME}") == here

    with closing(RemoteJournal("memory://bucket/out")) as noted:
        known = noted.find("deep/a.png")
    again = replace(errands[0], known=known)
    assert runner.run(again, settings).report.status == "unchanged"
    assert runner.run(again, "other settings").report.status == "done"
    bucket.pipe_file("/bucket/out/deep/a_bicubic.png", b"changed")
    assert runner.run(again, settings).report.status == "done"

    missing = runner.run(RemoteJob("memory://bucket/in/gone.png", "gone.png"), settings)
    assert missing.error is not None
    assert missing.error[:2] == ("memory://bucket/in/gone.png", "does not exist")


def test_two_images_for_one_file_are_refused(bundle: Bundle, bucket):
    bucket.cp_file("/bucket/in/deep/a.png", "/bucket/in/deep/a.jpg")
    with pytest.raises(UsageError, match="two images would become one file"):
        _plan(["memory://bucket/in"], bundle)


def test_an_empty_place_is_a_error_and_the_rest_go_on(bundle: Bundle, bucket):
    errands, errors = _plan(["memory://bucket/none", "memory://bucket/in/deep/a.png"], bundle)
    assert [each.source for each in errands] == ["memory://bucket/in/deep/a.png"]
    assert [type(error) for error in errors] == [ImageError]


def test_unknown_storage_and_urls_without_a_cluster_are_refused(tmp_path):
    with pytest.raises(UsageError, match="can't be reached"):
        list_images("nowhere://bucket")
    with pytest.raises(UsageError, match="--engine ray"):
        reject_urls(["in", "s3://bucket"])
    with pytest.raises(ImageError, match="does not exist"):
        download("memory://bucket/none.png", tmp_path / "a.png")
