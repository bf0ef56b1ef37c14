"""Addresses of results: files as they are, and nothing but results."""

import io
import zipfile

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from d2csr.core.geometry import Size
from d2csr.upscale.report import ImageReport
from d2csr.web.downloads import add_routes, iter_zip
from d2csr.web.jobs import Job, JobQueue
from d2csr.web.worker import JobRequest


@pytest.fixture
def job(tmp_path):
    """Return a job with one result of noise."""
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / name)
    source, target = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    job = Job(JobRequest((), tmp_path), tmp_path, "me", "a.png", "x1", state="done")
    report = ImageReport(source, target, "done", files=(target,), sr_size=Size(4, 3))
    job.reports.append(report)
    return job


@pytest.fixture
def client(job):
    """Return a client of an application with the addresses of that job's results."""
    queue, app = JobQueue(), FastAPI()
    queue.submit(job)
    add_routes(app, queue, limit_mp=1.0)
    yield TestClient(app)
    queue.close()


def test_a_file_is_downloaded_as_it_is(client, job, tmp_path):
    answer = client.get(f"/results/{job.token}/0/files/0")
    assert answer.content == (tmp_path / "b.png").read_bytes()
    assert answer.headers["Content-Disposition"] == 'attachment; filename="b.png"'
    with zipfile.ZipFile(io.BytesIO(client.get(f"/results/{job.token}/zip").content)) as archive:
        assert archive.testzip() is None
        assert archive.read("b.png") == answer.content


def test_tiles_are_described_and_loaded(client, job):
    address = f"/results/{job.token}/0/before"
    assert client.get(f"{address}/0/0_0.jpg").status_code == 404  # before they are described
    assert client.get(f"{address}/tiles").json()["levels"] == 1
    tile = client.get(f"{address}/0/0_0.jpg")
    assert Image.open(io.BytesIO(tile.content)).size == (4, 3)


@pytest.mark.parametrize(
    "path",
    [
        "other/0/files/0",
        "{token}/1/files/0",
        "{token}/-1/files/0",
        "{token}/0/files/1",
        "{token}/0/files/-1",
        "{token}/0/passwd/tiles",
        "{token}/0/after/9/0_0.jpg",
        "other/zip",
    ],
)
def test_everything_else_is_not_found(client, job, path):
    assert client.get("/results/" + path.format(token=job.token)).status_code == 404


def test_a_zip_is_made_in_parts(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 10_000)
    parts = list(iter_zip([tmp_path / "a.bin"]))
    assert len(parts) > 2
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        assert archive.read("a.bin") == (tmp_path / "a.bin").read_bytes()
