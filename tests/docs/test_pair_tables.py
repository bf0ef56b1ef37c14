"""The tables on the pages about pairs are those of the stored results."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = {"scale": 3, "planes": 1, "accepted": True, "rms_px": 0.5, "used_rms_px": 0.04,
        "cpu_seconds": 2.5, "pair": "x3_00"}  # fmt: skip


@pytest.fixture(scope="module")
def tables(load_script):
    """Return the script that writes the tables."""
    return load_script("pair_tables")


@pytest.mark.parametrize("name", ["align.md", "simulator.md"])
def test_page_is_up_to_date(tables, name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert ROOT / "docs" / name in tables.PAGES
    assert any(tables.begin(table) in page for table in tables.TABLES)
    assert tables.render(page) == page


@pytest.mark.parametrize("key", ["images", "pictures"])  # today's key, and that of old results
def test_models_are_compared_with_the_one_above(tables, tmp_path, key):
    paired = [{"a": "zoom", "b": "bicubic", "diff_psnr_db": 0.5, "interval95": [0.25, 0.75]}]
    test = {key: 5, "psnr_db": {"zoom": 28.0, "bicubic": 27.5}, "paired": paired}
    stored = {"date": "2025-01-01", "tests": {"crops": test}}
    (tmp_path / "realism_training-2025-01-01.json").write_text(json.dumps(stored), "utf-8")
    page = tables.render(f"{tables.begin('simulated')}\n{tables.END}\n", stored=tmp_path)
    assert "| crops, 5 images | zoom | 28.00 |  |" in page
    assert "| crops, 5 images | bicubic | 27.50 | -0.50 (-0.75 to -0.25) |" in page


def test_the_newest_file_is_used(tables, tmp_path):
    for date, error in (("2025-01-01", 9.0), ("2025-01-02", 0.04)):
        rows = [GOOD | {"used_rms_px": error}, GOOD | {"accepted": False, "used_rms_px": 7.0}]
        wrong = [{"kind": "mirrored", "accepted": False}]
        compared = {"x3_00": {"SIFT": {"rms_px": 2.0}, "ECC": {"failed": "no"}}}
        stored = {"date": date, "good": rows, "wrong": wrong, "compared": compared}
        path = tmp_path / f"align_accuracy-{date}.json"
        path.write_text(json.dumps(stored), encoding="utf-8")
    empty = "".join(f"{tables.begin(name)}\n{tables.END}\n" for name in tables.TABLES)
    page = tables.render(empty, stored=tmp_path)
    assert "| x3 | 1 of 2 | 0.040 | 0.040 | 0.040 | 2.5 |" in page
    assert "Of 1 wrong pairs (mirrored) 0 were accepted." in page
    assert "| SIFT | - | 2.000 | - | - |" in page
    assert "| ECC | - | - (1 of 1 failed) | - | - |" in page
    assert "Not measured yet." in page  # of City100
