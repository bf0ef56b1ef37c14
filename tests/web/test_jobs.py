"""Jobs: one process each, one at a time; what is left of those that end early."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2csr.upscale.report import ImageReport, Progress
from d2csr.web.jobs import Job, JobQueue
from d2csr.web.worker import End, JobRequest
from tests.web.conftest import eventually


@pytest.fixture
def queue():
    """Return a queue, which is closed afterwards."""
    queue = JobQueue()
    yield queue
    queue.close()


def make_job(folder: Path, owner: str = "me", *, size: int = 20) -> Job:
    """Return a job with one photo of noise."""
    photo = folder / "photos" / "a.png"
    photo.parent.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(photo)
    request = JobRequest((photo,), folder / "results", model="photo-x2")
    return Job(request, folder, owner, "a.png", "x2")


def test_a_process_that_is_killed_is_an_error_in_words_and_the_next_job_runs(queue, tmp_path):
    first = queue.submit(make_job(tmp_path / "1", size=1500))
    second = queue.submit(make_job(tmp_path / "2"))
    assert queue.count_before(second) == 1
    assert eventually(lambda: first.progress is not None, seconds=60)
    os.kill(queue._process.pid, signal.SIGKILL)
    assert eventually(lambda: second.is_finished, seconds=60)
    (error,) = first.errors
    assert "the process ended with code -9" in str(error)
    assert "memory was short" in str(error)
    assert list((tmp_path / "1" / "results").glob("*")) == []
    assert [Path(each.target).name for each in second.done] == ["a.png"]
    assert second.errors == []


def test_a_job_that_waits_is_cancelled_without_a_process_and_forgotten_with_its_folder(tmp_path):
    queue = JobQueue()
    queue.close()  # so that nothing begins
    job = queue.submit(make_job(tmp_path / "1"))
    other = queue.submit(make_job(tmp_path / "2", owner="another"))
    assert queue.cancel("me") == 1
    assert (job.state, other.state) == ("cancelled", "waiting")
    queue.forget("me")
    assert queue.find(job.token) is None
    assert [each.name for each in tmp_path.iterdir()] == ["2"]
    assert queue.jobs_of("another") == [other]


def test_an_error_of_the_whole_job_is_reported(queue, tmp_path):
    job = make_job(tmp_path)
    job.request = JobRequest(job.request.inputs, job.request.output, model="photo-x9")
    queue.submit(job)
    assert eventually(lambda: job.is_finished, seconds=60)
    assert "is neither a shipped model nor a folder" in str(job.errors[0])


def test_the_time_left_follows_from_the_share_done(tmp_path, monkeypatch):
    job = make_job(tmp_path)
    job.state, now = "running", 100.0
    monkeypatch.setattr("d2csr.web.jobs.time.monotonic", lambda: now)
    job.take(Progress("a.png", 0.0, 0, 1))
    assert job.seconds_left is None
    now = 103.0
    job.take(Progress("a.png", 0.25, 0, 1))
    assert job.seconds_left == pytest.approx(9.0)


def test_a_report_of_a_failed_photo_is_not_repeated_by_the_end(tmp_path):
    from d2csr.core.errors import ImageError

    job = make_job(tmp_path)
    job.state, error = "running", ImageError("a.png", "is damaged", "Repair it.")
    job.take(ImageReport("a.png", "b.png", "failed", error=error))
    job.take(End((error, ImageError("c.png", "is missing", "Find it."))))
    assert [each.where for each in job.errors] == ["c.png"]
    assert job.state == "done"
