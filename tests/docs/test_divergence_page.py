"""The tables on the divergence page are those of the stored results."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROW = {"title": "tree", "networks": 1, "parameters": 12345, "training_pflop": 1.234,
       "time_ms": 98.7, "time_ratio": 1.0, "time_ratio_interval95": [1.0, 1.0],
       "psnr_db": 29.4321, "least_psnr_db": 29.4, "most_psnr_db": 29.5, "difference": None,
       "oracle_gain_db": 0.214, "disagreement_levels": 0.55, "disagreement_spearman": 0.7712,
       "gradient_spearman": 0.8151, "images": {"1": [], "2": []},
       "model": {"channels": 16, "children": 2, "depth": 2, "groups": 2, "blocks": 2,
                 "trunk_groups": 0}}  # fmt: skip
ALONE = ROW | {
    "title": "one trunk", "oracle_gain_db": None, "disagreement_levels": None,
    "disagreement_spearman": None, "networks": 4, "time_ratio": 1.031,
    "model": ROW["model"] | {"children": 1, "trunk_groups": 3},
    "difference": {"seeds": [1], "diff_psnr_db": -0.05, "interval95": [-0.1, 0.001]},
}  # fmt: skip
VALUES = {"date": "2026-01-01", "scale": 3, "train": "train", "tests": ["val, 5 images"],
          "protocol": "y", "timed_lr_px": 256, "rows": {"a": ROW, "b": ALONE},
          "machine": {"processor": "an abacus", "versions": {"openvino": "1.2"}}}  # fmt: skip


@pytest.fixture(scope="module")
def writer(load_script):
    """Return the script that writes the tables."""
    return load_script("divergence")


def test_the_page_is_up_to_date(writer):
    page = writer.PAGE.read_text(encoding="utf-8")
    assert writer.render(page) == page, "run `make docs`"


def test_stored_results_are_on_the_page(writer, tmp_path):
    (tmp_path / "divergence-x3.json").write_text(json.dumps(VALUES), encoding="utf-8")
    (tmp_path / "divergence-x3.webp").write_bytes(b"")
    page = writer.render(writer.PAGE.read_text(encoding="utf-8"), stored=tmp_path, images=tmp_path)
    expected = (
        "| tree | 2 | 29.432 (29.400 to 29.500) |  | +0.21 |",
        "| one trunk | 2 | 29.432 (29.400 to 29.500) | -0.050 (-0.100 to +0.001) |  |",
        "| tree | 0.55 | 0.771 | 0.815 |",
        "| one trunk |  |  | 0.815 |",
        "| tree | 16 channels, 4 leaves, G 2, B 2 | 12,345 | 99 (1.000, 1.000 to 1.000) | 1.23 |",
        "| 4 times 16 channels, 1 leaf, G 2, B 2, 3 shared groups |",
        "an abacus, one thread, 2026-01-01; openvino 1.2",
        "/divergence-x3.webp)",
        "tested on val, 5 images, by protocol `y`",
    )
    assert [text for text in expected if text not in page] == []
    assert writer.render(page, stored=tmp_path, images=tmp_path) == page
    assert page.count("Not measured yet.") == 1  # of x4
