"""The page of models for photographs is made from what is stored, of the weights that ship."""

import importlib.util
import json
from pathlib import Path

import pytest

from d2csr.engine.model import shipped_bundles

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def writer():
    """Return the script that writes the page."""
    spec = importlib.util.spec_from_file_location("page", ROOT / "docs" / "photo_models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def system(psnr_db, over_db=None):
    interval = None if over_db is None else [over_db - 0.25, over_db + 0.25]
    return {
        "summary": {
            "psnr_db": psnr_db, "interval95": [psnr_db - 1, psnr_db + 1], "ssim": 0.81236,
            "over_bicubic_db": over_db, "over_bicubic_interval95": interval,
            "registered_db": None if psnr_db > 29 else psnr_db + 0.5,
            "shift_p50": 0.31, "shift_p95": 1.26,
        }
    }  # fmt: skip


VALUES = {
    "scale": 2, "protocol": "y", "date": "2026-01-01", "machine": {"processor": "an abacus"},
    "left_out": {"phone": "simulated phones (no pairs in `$D2CSR_PAIRS/x2/phone`)"},
    "sets": {
        "city100": {"title": "City100 test, iPhone", "names": ["a", "b"],
            "hr_shift_p50": [1.0, 2.0], "hr_shift_p95": [3.0, 5.0], "systems": {
            "bicubic": system(24.0), "photo-x2": system(24.5, 0.5),
            "city100-iphone-x2": system(25.5, 1.5)}},
        "set5": {"title": "Set5", "names": ["a"],
            "hr_shift_p50": [1.0], "hr_shift_p95": [3.0], "systems": {
            "bicubic": system(33.0), "lanczos": system(33.1, 0.1), "photo-x2": system(35.0, 2.0),
            "city100-iphone-x2": system(29.0, -4.0)}},
    },
}  # fmt: skip


def test_the_page_is_up_to_date(writer):
    page = writer.PAGE.read_text(encoding="utf-8")
    assert writer.render(page) == page, "run `make docs`"


def test_stored_scores_are_on_the_page(writer, tmp_path):
    (tmp_path / "photo_models-x2.json").write_text(json.dumps(VALUES), encoding="utf-8")
    (tmp_path / "photo-x2-boat.png").write_bytes(b"")
    sources = writer.Sources(tmp_path, tmp_path)
    page = writer.render(writer.PAGE.read_text(encoding="utf-8"), sources=sources)
    expected = (
        "| pairs | images | `bicubic` | `lanczos` | `city100-iphone-x2` | `photo-x2` |",
        "| City100 test, iPhone | 2 | 24.00 | - | **25.50** | 24.50 |",
        "| Set5 | 1 | 33.00 | 33.10 | 29.00 | **35.00** |",
        "| City100 test, iPhone | 24.50 (23.50 to 25.50) | 0.8124 | 24.00 |"
        " +0.50 (+0.25 to +0.75) | 25.00 | 0.3 / 1.3 | 1.5 / 4.0 |",
        "| Set5 | 35.00 (34.00 to 36.00) | 0.8124 | 33.00 |"
        " +2.00 (+1.75 to +2.25) |  | 0.3 / 1.3 | 1.0 / 3.0 |",
        "| `city100-iphone-x2` | +1.50 (+1.25 to +1.75) | -4.00 (-4.25 to -3.75) | - | - |",
        "Left out: simulated phones (no pairs in `$D2CSR_PAIRS/x2/phone`).",
        "2026-01-01, an abacus",
        "![photo-x2-boat](images/photo-x2-boat.png)",
    )
    assert [text for text in expected if text not in page] == []
    assert "photo-x4-boat.png" not in page
    assert page.count("Not measured yet.") == 2  # x3 and x4
    assert writer.render(page, sources=sources) == page


def test_stored_scores_are_those_of_the_weights_that_ship(writer):
    """After the weights of a model change, benchmarks/photo_models.py has to run again."""
    shipped = {bundle.card.name: bundle.weights_sha256 for bundle in shipped_bundles()}
    stored = [values for scale in writer.SCALES if (values := writer.Sources().scores(scale))]
    wrong = {
        name
        for values in stored
        for scores in values["sets"].values()
        for name, each in scores["systems"].items()
        if name in shipped and each["weights_sha256"] != shipped[name]
    }
    assert wrong == set()


def test_images_are_of_a_moderate_size(writer):
    images = [writer.PAGE.parent / "images" / f"{name}.png" for name in writer.CAPTIONS]
    assert [path.name for path in images if path.is_file() and path.stat().st_size > 400_000] == []
