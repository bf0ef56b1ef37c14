"""The table on brightness and color is that of the stored results."""

import json
from pathlib import Path

import pytest

from d2csr.engine.model import shipped_names

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script(load_script):
    """Return the script that writes the table."""
    return load_script("faithful_color")


def test_page_is_up_to_date(script):
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.render(page) == page, "run `make docs`"


def test_every_measured_model_ships(script):
    measured = [each["model"] for each in json.loads(script.STORED.read_text())["models"]]
    assert set(measured) <= set(shipped_names())


def test_a_row_has_the_stored_numbers(script, tmp_path):
    stored = {
        "model": "m",
        "brightness_shift": {"benchmarks/Set5": {"p50": 0.44, "p95": 1.26}},
        "flat_gray": {"network": 3.83, "sr": 0},
        "flat_colors": {"network": 13.8, "sr": 1},
        "gray_difference": {"largest": 2},
    }
    (tmp_path / "r.json").write_text(json.dumps({"models": [stored]}))
    page = script.render(f"{script.BEGIN}\n{script.END}\n", stored=tmp_path / "r.json")
    assert "| m |  | 0.4 / 1.3 | 3.8 | 13.8 | 1 | 2 |" in page
