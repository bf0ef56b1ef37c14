"""The report in a real browser; skipped with the reason where there is none."""

import html
import json
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from d2csr.align.html_report import write_report
from d2csr.align.outcome import PairImages, PairResult, RegistrationRecord, Verdict
from d2csr.align.pairing import PhotoPair

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
    def result(name: str, photos: str, verdict: Verdict, **details: Any) -> PairResult:
        pair = PhotoPair(photos, "s", Path("w.jpg"), Path("t.jpg"))
        return PairResult("", name, pair, "Cam", verdict, **details)

    record = RegistrationRecord(
        scores={"residual_median_px": 0.1, "similarity": 0.9, "grid_error_px": None},
        arrows=[[10.0, 10.0, 0.1, 0.2], [50.0, 60.0, 2.0, 0.0]],
    )
    good = result(
        "Cam_001", "</script><b>one", Verdict("accepted"),
        images=PairImages((100, 80), (200, 160)), registration=record,
    )  # fmt: skip
    bad = result("Cam_002", "two", Verdict("rejected", "features", "too few"))
    for kind, value in (("a", 60), ("b", 180)):
        cv2.imwrite(str(tmp_path / f"Cam_001_{kind}.jpg"), np.full((160, 200, 3), value, np.uint8))
    cv2.imwrite(str(tmp_path / "Cam_001_m.png"), np.full((80, 100, 4), 99, np.uint8))
    path = tmp_path / "report.html"
    write_report(
        [good, bad], [(Path("alone.jpg"), "no partner")], work=tmp_path, path=path, scale=2
    )
    return path


HOSTILE = "<img src=x onerror=alert(1)></script></title><!--<script>\"'&amp;\u2028"


def test_text_of_files_and_tags_stays_text(tmp_path):
    """Names, EXIF strings in notes and reasons: the page has its own elements and no others."""
    pair = PhotoPair(HOSTILE, HOSTILE, Path("w.jpg"), Path("t.jpg"))
    verdict = Verdict("rejected", HOSTILE, HOSTILE)
    result = PairResult("", HOSTILE, pair, HOSTILE, verdict, notes=(HOSTILE,))
    harmless = replace(
        result, name="n", photos=replace(pair, name="n"), verdict=Verdict("rejected", "n", "n"),
        notes=("n",),
    )  # fmt: skip
    pages = []
    for number, (each, photo) in enumerate(((result, HOSTILE), (harmless, "n"))):
        path = tmp_path / f"{number}.html"
        write_report([each], [(Path(photo), photo)], work=tmp_path, path=path, scale=2)
        pages.append(Elements(path.read_text(encoding="utf-8")))
    assert pages[0].tags == pages[1].tags
    data = json.loads(pages[0].texts["data"])
    assert data["pairs"][0]["name"] == data["pairs"][0]["notes"][0] == HOSTILE
    assert data["unpaired"] == [[str(Path(HOSTILE)), HOSTILE]]
    script = files("d2csr.align").joinpath("report.html").read_text(encoding="utf-8")
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert unsafe not in script  # text enters the page by textContent alone


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the texts of those with an id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.texts: dict[str, str] = {}
        self._id = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))
        self._id = dict(attrs).get("id") or ""

    def handle_data(self, data: str) -> None:
        self.texts[self._id] = self.texts.get(self._id, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._id = ""


def test_names_do_not_end_the_script_element(report):
    assert report.read_text().count("</script>") == 2


# Runs in the page before its own script: records errors.
WATCH = """<script>
window.errors = [];
addEventListener("error", event => errors.push(String(event.message || event.target.src)), true);
console.error = console.warn = (...words) => errors.push(words.join(" "));
</script>"""
# Runs after it: acts as a reader does and records the result.
USE = """<script>
const seen = {}, at_ = id => document.getElementById(id);
const front = () => getComputedStyle(at_("b")).visibility === "visible";
seen.sheet = at_("sheet").children.length;
seen.lines = document.querySelectorAll("#field line").length;
seen.front = [front()];
setTimeout(() => seen.front.push(front()), 700);
setTimeout(() => seen.front.push(front()), 1200);
setTimeout(() => {
  at_("flicker").click(); seen.still = [front()];
  setTimeout(() => {
    seen.still.push(front());
    at_("swap").click(); seen.swapped = front();
    at_("arrows").click(); seen.without = document.querySelectorAll("#field line").length;
    const image = at_("a").getBoundingClientRect(), field = at_("field").getBoundingClientRect();
    seen.covers = Math.abs(image.width - field.width) + Math.abs(image.height - field.height);
    seen.wide = image.width;
    const mask = at_("m");
    const shown = () => mask.getBoundingClientRect().width * (mask.naturalWidth > 0);
    seen.masked = [shown()]; at_("masked").click(); seen.masked.push(shown());
    const unmeasured = at_("scores").rows[2].cells[1];
    seen.unmeasured = [unmeasured.textContent, unmeasured.className];
    seen.meaning = at_("scores").rows[1].cells[3].textContent;
    at_("masked").click(); at_("sheet").children[1].click(); seen.masked.push(shown());
    seen.reason = at_("reason").textContent;
    seen.requests = performance.getEntriesByType("resource").map(entry => entry.name)
      .filter(name => !name.startsWith("data:"));
    seen.errors = errors;
    document.body.dataset.seen = JSON.stringify(seen);
  }, 1100);
}, 1300);
</script>"""


def in_browser(page: Path, *more: str) -> str:
    assert BROWSER is not None
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1250,1400",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=6000", *more, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here to open the report in")
def test_report_works_in_a_browser(report):
    page = report.read_text().replace("<title>", WATCH + "<title>").replace("</html>", USE)
    (used := report.with_name("used.html")).write_text(page)
    dom = in_browser(used, "--dump-dom")
    assert 'data-ready="true"' in dom
    assert "alone.jpg: no partner" in dom
    seen = json.loads(html.unescape(dom.split('data-seen="')[1].split('"')[0]))
    assert seen["sheet"] == 2
    assert (seen["lines"], seen["without"]) == (2, 0)
    assert seen["front"] == [True, False, True]  # it flickers every half second
    assert seen["still"][0] == seen["still"][1] != seen["swapped"]
    assert seen["covers"] < 1 < seen["wide"]  # arrows lie on the image
    assert seen["masked"] == [seen["wide"], 0, 0]  # over all of it, put away, and none of another
    assert seen["unmeasured"] == ["can't be measured", "breach"]
    assert "variance that the other image explains" in seen["meaning"]
    assert seen["reason"] == "rejected: too few"
    assert (seen["requests"], seen["errors"]) == ([], [])
