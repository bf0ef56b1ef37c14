"""The table of damaged files is that of the stored results, which hold on a few files."""

import json

import pytest

from benchmarks.damaged_files import DAMAGES, KINDS, RESULTS, count


@pytest.fixture(scope="module")
def writer(load_script):
    """Return the script that writes the table."""
    return load_script("damaged_files")


def test_the_page_is_up_to_date(writer):
    page = writer.PAGE.read_text(encoding="utf-8")
    assert writer.render(page) == page, "run `make docs`"


def test_a_cell_is_the_share_noticed_of_the_files_with_wrong_pixels(writer, tmp_path):
    counts = {"hit": {"refused": 2, "told": 1, "right": 9, "wrong": 1},
              "none": {"refused": 0, "told": 0, "right": 9, "wrong": 0}}  # fmt: skip
    values = {"files": 4, "date": "2026-01-01", "versions": {"a": "1"}, "counts": {"XY": counts}}
    stored = tmp_path / "stored.json"
    stored.write_text(json.dumps(values), encoding="utf-8")
    page = writer.render(writer.PAGE.read_text(encoding="utf-8"), stored=stored)
    assert "| XY | 75% | - |" in page


def test_every_kind_and_damage_was_counted():
    counts = json.loads(RESULTS.read_text(encoding="utf-8"))["counts"]
    assert list(counts) == list(KINDS)
    assert all(list(each) == list(DAMAGES) for each in counts.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_that_was_always_noticed_still_is(tmp_path, kind, damage):
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))["counts"][kind][damage]
    found = count(kind, damage, files=3, folder=tmp_path)
    assert found["wrong"] == 0 or stored["wrong"] > 0
