"""The observer of a run: progress and reports for programs that show them themselves."""

import numpy as np
import pytest
from PIL import Image

from d2csr.upscale.report import Observer, Progress
from d2csr.upscale.run import upscale_files


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Return a folder with two photos and a file that isn't one."""
    folder = tmp_path_factory.mktemp("photos")
    for seed, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "c.png").write_bytes(b"no image")
    return folder


def test_an_observer_gets_the_progress_to_its_end_and_every_report(photos, tmp_path, bundle):
    seen, reports = [], []
    observer = Observer(on_progress=seen.append, on_report=reports.append)
    summary = upscale_files([photos], tmp_path, model=bundle, observer=observer)
    assert tuple(reports) == summary.images
    assert {each.status for each in reports} == {"done", "failed"}
    shares = [each.done for each in seen]
    assert shares == sorted(shares)
    assert seen[-1] == Progress(seen[-1].image, 1.0, images_done=3, images=3)
    assert {each.image for each in seen} >= {"a.png", "b.png"}


def test_an_observer_can_interrupt_a_run_which_leaves_no_part_of_a_file(photos, tmp_path, bundle):
    def interrupt(progress):
        if progress.image == "b.png":
            raise KeyboardInterrupt

    summary = upscale_files(
        [photos], tmp_path, model=bundle, observer=Observer(on_progress=interrupt)
    )
    assert summary.interrupted
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["a.png"]
