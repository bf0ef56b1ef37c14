"""The tables on the speed page are those of the stored results."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MACHINE = {"processor": "an abacus", "threads": 2, "versions": {"openvino": "1.2"}}
CEILING = {"operation": "convolution", "side": 512, "channels": 64, "precision": "bf16",
           "library": "openvino", "gflops_per_s": 380.4, "best": True}  # fmt: skip
ROW = {"backend": "openvino", "precision": "bf16", "form": "collapsed", "median_s": 7.654,
       "speedup_over_reference": 5.71, "speedup_interval95": [5.6, 5.8],
       "speedup_over_expanded": None, "speedup_over_expanded_interval95": None,
       "share_of_ceiling": 0.973, "peak_memory_bytes": 2**30, "psnr_change_db": -0.0012,
       "psnr_change_by": "estimate"}  # fmt: skip
TARGET = {"what": "speed", "wanted": 5.5, "found": 5.71, "interval95": [5.6, 5.8],
          "most": False, "met": True}  # fmt: skip


@pytest.fixture(scope="module")
def speed(load_script):
    """Return the script that writes the tables."""
    return load_script("speed")


def test_the_page_is_made_from_the_stored_results(speed):
    page = speed.PAGE.read_text(encoding="utf-8")
    assert speed.render(page) == page, "run `make docs`"


def test_the_newest_stored_results_are_on_the_page(speed, tmp_path):
    for day, median_s in (("2026-01-01", 9.999), ("2026-02-01", 7.654)):
        model = {"name": "paper x4", "backends": [{**ROW, "median_s": median_s}]}
        values = {"date": day, "machine": MACHINE, "lr_size": [512, 512], "rounds": 9}
        values |= {"ceilings": [CEILING], "targets": [TARGET], "models": [model]}
        (tmp_path / f"upscale_speed-paper-{day}.json").write_text(json.dumps(values))
    page = speed.render(speed.PAGE.read_text(encoding="utf-8"), stored=tmp_path)
    expected = ("**openvino 380**", "7.654", "5.71 (5.60 to 5.80)", "97%", "1024 MiB",
            "about -0.0012 dB", "an abacus, 2 threads, 2026-02-01; openvino 1.2",
            "at least 5.5: 5.71")  # fmt: skip
    assert [text for text in expected if text not in page] == []
    assert "9.999" not in page
    assert "Not measured yet." in page  # the other tables
