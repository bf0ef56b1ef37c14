"""The report in a real browser; skipped with the reason where there is none."""

import shutil
import subprocess
from pathlib import Path

import pytest

from d2csr.align.outcome import Outcome
from d2csr.align.report import write_report

BROWSER = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    about = {"key": "", "scene": "s", "wide": "w.jpg", "tele": "t.jpg"}
    good = Outcome(
        name="Cam_001", capture="</script><b>one", verdict="accepted", lr_size=(100, 80),
        hr_size=(200, 160), scores={"residual_median_px": 0.1, "likeness": 0.9},
        arrows=[[10.0, 10.0, 0.1, 0.2], [50.0, 60.0, 2.0, 0.0]], **about,
    )  # fmt: skip
    bad = Outcome(
        name="Cam_002",
        capture="two",
        verdict="rejected",
        cause="features",
        reason="too few",
        **about,
    )
    path = tmp_path / "report.html"
    write_report(
        [good, bad], [(Path("alone.jpg"), "no partner")], work=tmp_path, path=path, scale=2
    )
    return path


def test_names_cannot_end_the_script(report):
    assert report.read_text().count("</script>") == 2


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here to open the report in")
def test_report_works_in_a_browser(report):
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        "--virtual-time-budget=3000", report.as_uri(),
    ]  # fmt: skip
    page = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert 'data-ready="true"' in page
    assert page.count("<line") == 2
    assert "too few" not in page.split("<script")[0] or "features" in page
    assert "alone.jpg: no partner" in page
