"""Views: states in words, and nothing from outside unescaped."""

import re
from pathlib import Path

import pytest

from d2csr.core.errors import ImageError
from d2csr.core.geometry import Size
from d2csr.upscale.report import ImageReport, Progress
from d2csr.web.jobs import Job
from d2csr.web.results import Layer, Result
from d2csr.web.views import WELCOME, render_compare, render_downloads, render_queue
from d2csr.web.worker import JobRequest

NAME = "<img src=x onerror=alert(1)>'\".jpg"


def make_job(state: str = "running", count: int = 1) -> Job:
    """Return a job of photos with a hostile name."""
    request = JobRequest(tuple(Path(f"/tmp/x/{index}{NAME}") for index in range(count)), Path("o"))
    return Job(request, Path("f"), "me", NAME, "x2 by photo-x2", state=state)


def words(html: str) -> str:
    return re.sub(r"<[^>]*>", "", html)


def test_names_are_escaped_everywhere():
    job = make_job("done")
    source, target = f"/tmp/x/{NAME}", f"/tmp/o/{NAME}"
    job.errors.append(ImageError(source, f"is {NAME}", "Drop it."))
    job.reports.append(
        ImageReport(source, target, "done", (target,), Size(1, 1), Size(2, 2), warnings=(NAME,))
    )
    result, layer = Result(job, 0), Layer("after", NAME, Path(target))
    for html in (
        render_queue([(job, 0)]),
        render_downloads(result),
        render_compare(result, left=layer, rights=[layer]),
    ):
        assert "<img" not in html
        assert "/tmp/" not in html


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (None, "starting"),
        (Progress("a", 0.0, 0, 1), "0%"),
        (Progress("a", 0.5, 1, 3), "photo 2 of 3, 50%, about 30 seconds left"),
        (Progress("a", 1.0, 3, 3), "writing the files"),
    ],
)
def test_a_running_job_in_words(monkeypatch, progress, expected):
    job = make_job()
    monkeypatch.setattr("d2csr.web.jobs.time.monotonic", lambda: 30.0)
    job.progress, job._began_at = progress, 0.0
    assert words(render_queue([(job, 0)])).endswith(expected)


@pytest.mark.parametrize(
    ("state", "before", "expected"),
    [
        ("waiting", 0, "waiting"),
        ("waiting", 1, "waiting: another is before it"),
        ("waiting", 2, "waiting: 2 others are before it"),
        ("cancelled", 0, "cancelled"),
        ("done", 0, "done"),
    ],
)
def test_other_states_in_words(state, before, expected):
    assert words(render_queue([(make_job(state), before)])).endswith(expected)


def test_a_job_of_several_photos_counts_those_that_succeeded():
    assert words(render_queue([(make_job("done", 3), 0)])).endswith("done, 0 of 3 photos")


def test_an_empty_queue_says_what_to_do():
    assert render_queue([]) == WELCOME
