"""The table on the page of networks is that of the stored results."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROW = {"name": "photo", "parameters": 283488, "ms_per_lr_mp": 1500.4, "steps": 6700,
       "psnr_db": 28.1234, "difference_db": 0.0, "difference_interval95": [0.0, 0.0],
       "training_pflop": 1.0, "psnr_db_by_kind": {"real": 27.4, "Web": 28.8}}  # fmt: skip
SLOWER = ROW | {"name": "slower", "ms_per_lr_mp": 1800.0, "psnr_db": 28.0, "difference_db": -0.1234}
BETTER = SLOWER | {"name": "better", "psnr_db": 28.2}
LONGER = ROW | {"name": "longer", "psnr_db": 29.0, "training_pflop": 3.0, "steps": 20000}
VALUES = {"date": "2026-01-01", "rows": [ROW, SLOWER, BETTER, LONGER],
          "machine": {"processor": "an abacus", "threads": 2, "versions": {"a": "1"}}}  # fmt: skip


@pytest.fixture(scope="module")
def writer(load_script):
    """Return the script that writes the table."""
    return load_script("networks")


def test_the_page_is_up_to_date(writer):
    page = writer.PAGE.read_text(encoding="utf-8")
    assert writer.render(page) == page, "run `make docs`"


def test_stored_results_are_on_the_page(writer, tmp_path):
    stored = tmp_path / "pareto.json"
    stored.write_text(json.dumps(VALUES), encoding="utf-8")
    page = writer.render(writer.PAGE.read_text(encoding="utf-8"), stored=stored)
    expected = (
        "| **photo** | 283,488 | 1,500 | 6,700 | 28.123 | +0.000 (+0.000 to +0.000) | 27.40 |",
        "| slower | 283,488 | 1,800 | 6,700 | 28.000 | -0.123",
        "| **better** |",
        "| longer | 283,488 | 1,500 | 20,000 | 29.000",
        "an abacus, 2 threads, 2026-01-01; a 1",
    )
    assert [text for text in expected if text not in page] == []
    assert writer.render(page, stored=stored) == page


def test_without_results_the_page_says_so(writer, tmp_path):
    page = writer.PAGE.read_text(encoding="utf-8")
    assert "Not measured yet." in writer.render(page, stored=tmp_path / "none.json")
