"""The list and the tables of `docs/suites.md` are those that `make docs` writes."""

import importlib.util
import json
from pathlib import Path

import pytest

from d2csr.figures.catalog import ITEMS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def writer():
    spec = importlib.util.spec_from_file_location("suites_page", ROOT / "docs/suites.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_make_docs_writes(writer):
    page = writer.PAGE.read_text(encoding="utf-8")
    assert writer.render(page) == page, "run `make docs`"
    assert all(f"| `{item.name}` |" in page for item in ITEMS)


def test_stored_suites_have_a_table(writer, tmp_path):
    row = {
        "data": "nikon", "test": "city100", "protocol": "y", "system": "d2c-sr", "seeds": 3,
        "parameters": 12345, "psnr_db": 30.5, "psnr_db_interval95": [30.0, 31.0], "ssim": 0.9,
        "difference_db": -0.25, "difference_db_interval95": [-0.5, 0.0],
    }  # fmt: skip
    (tmp_path / "suite-rates.json").write_text(json.dumps([row]))
    page = writer.render(writer.PAGE.read_text(encoding="utf-8"), stored=tmp_path)
    assert "### rates" in page
    assert (
        "| nikon, city100 | y | d2c-sr | 3 | 12,345 | 30.50 (30.00 to 31.00) | 0.9000 | "
        "-0.25 (-0.50 to +0.00) |"
    ) in page
