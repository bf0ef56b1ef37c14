"""Images from object storage to object storage, in fsspec's memory file system; without Ray."""

from contextlib import closing

import fsspec
import numpy as np
import pytest

from d2csr.core.bundle import CARD_NAME, Bundle
from d2csr.core.errors import ImageError, UsageError
from d2csr.images.writer import write_rgb8
from d2csr.upscale.jobs import plan_images
from d2csr.upscale.journal import JOURNAL_NAME
from d2csr.upscale.options import DEFAULT_BATCH, DEFAULT_COMPUTE, BatchOptions, OutputOptions
from d2csr.upscale.pipeline import EXISTS
from d2csr.upscale.ray_executor import RemoteJob, RemoteJournal, UpscaleWorker
from d2csr.upscale.run import Run, upscale_files
from d2csr.upscale.storage import download, list_images

LR8 = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
BICUBIC = OutputOptions(bicubic=True, strength=0.5)


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


def _plan(*inputs: str, output: str = "memory://bucket/out", options: OutputOptions = BICUBIC):
    return plan_images(inputs, output, options=options, leaves=4, scale=2)


def test_a_worker_makes_the_files_that_a_local_run_makes(
    bundle: Bundle, bucket, tmp_path, monkeypatch
):
    monkeypatch.setenv("D2CSR_CACHE", str(tmp_path / "cache"))
    plan = _plan("memory://bucket/in")
    (image,) = plan.images
    assert (image.target, plan.errors) == ("deep/a.png", ())
    output = "memory://bucket/out"
    settings = Run(bundle, output, BICUBIC, DEFAULT_COMPUTE, DEFAULT_BATCH).settings
    names = [CARD_NAME, *bundle.card.files]
    files = {name: (bundle.folder / name).read_bytes() for name in names}
    worker = UpscaleWorker(files, output, options=BICUBIC, compute=DEFAULT_COMPUTE)
    result = worker.run(RemoteJob(image.source, image.target), settings)
    assert result.report.status == "done"
    assert result.report.target == "memory://bucket/out/deep/a.png"

    upscale_files([tmp_path / "in"], tmp_path / "out", model=bundle, options=BICUBIC)
    for name in ("deep/a.png", "deep/a_bicubic.png"):
        assert bucket.cat_file(f"/bucket/out/{name}") == (tmp_path / "out" / name).read_bytes()

    job = RemoteJob(image.source, image.target)
    error = worker.run(job, settings).report.error
    assert error is not None
    assert (error.where, error.problem) == ("memory://bucket/out/deep/a.png", EXISTS[0])
    worker._batch = BatchOptions(overwrite=True)
    assert worker.run(job, settings).report.status == "done"

    journal = RemoteJournal(output)
    assert result.entry is not None
    journal.append(result.entry)
    journal.close()
    local = (tmp_path / "out" / JOURNAL_NAME).read_bytes()
    assert bucket.cat_file(f"/bucket/out/{JOURNAL_NAME}") == local

    with closing(RemoteJournal(output)) as journal:
        again = RemoteJob(image.source, image.target, journal.find("deep/a.png"))
    worker._batch = DEFAULT_BATCH
    assert worker.run(again, settings).report.status == "unchanged"
    assert worker.run(again, "other settings").report.status == "failed"
    worker._batch = BatchOptions(resume=True)
    assert worker.run(again, "other settings").report.status == "done"
    bucket.pipe_file("/bucket/out/deep/a_bicubic.png", b"changed")
    error = worker.run(again, settings).report.error
    assert error is not None
    assert error.where == "memory://bucket/out/deep/a_bicubic.png"

    missing = worker.run(RemoteJob("memory://bucket/in/gone.png", "gone.png"), settings).report
    assert missing.error is not None
    assert missing.error.where == "memory://bucket/in/gone.png"
    assert missing.error.problem == "does not exist"


def test_results_must_not_overwrite_their_sources(bucket):
    """A folder of results that is the folder of the images, however its URL is written."""
    with pytest.raises(UsageError, match=r"deep/a\.png: its result would overwrite memory"):
        _plan("memory://bucket/in", output="memory://bucket/x/../in")


def test_two_images_of_one_name_get_their_format_in_the_names_of_their_results(bucket):
    bucket.cp_file("/bucket/in/deep/a.png", "/bucket/in/deep/a.jpg")
    options = OutputOptions(ext="png")
    targets = [image.target for image in _plan("memory://bucket/in", options=options).images]
    assert targets == ["deep/a_jpg.png", "deep/a_png.png"]


def test_results_below_the_folder_of_the_images_are_no_input(bucket):
    bucket.cp_file("/bucket/in/deep/a.png", "/bucket/in/out/deep/a.png")
    bucket.cp_file("/bucket/in/deep/a.png", "/bucket/in/outside.png")
    plan = _plan("memory://bucket/in", output="memory://bucket/in/out")
    assert [image.target for image in plan.images] == ["deep/a.png", "outside.png"]


def test_an_empty_folder_is_an_error_and_the_others_continue(bucket):
    plan = _plan("memory://bucket/none", "memory://bucket/in/deep/a.png")
    assert [each.source for each in plan.images] == ["memory://bucket/in/deep/a.png"]
    assert [type(error) for error in plan.errors] == [ImageError]


def test_unknown_storage_and_urls_without_a_cluster_are_refused(bundle: Bundle, tmp_path):
    with pytest.raises(UsageError, match="can't be opened"):
        list_images("nowhere://bucket")
    with pytest.raises(UsageError, match="--executor ray"):
        upscale_files(["s3://bucket"], tmp_path / "out", model=bundle)
    with pytest.raises(ImageError, match="does not exist"):
        download("memory://bucket/none.png", tmp_path / "a.png")
