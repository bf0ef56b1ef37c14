"""The page of reliability is made from what is stored, and every failure on it is named."""

import json

import pytest


@pytest.fixture(scope="module")
def writer(load_script):
    """Return the script that writes the page."""
    return load_script("reliability")


def stored_line(**changes):
    return {"tried": "`train` killed", "expected": "the same weights", "times": 25, "held": 25,
            "exceptions": [], "seconds": 1.5, "date": "2026-01-02", **changes}  # fmt: skip


def store(folder, *lines):
    values = {"title": "Kills", "command": "python benchmarks/x.py", "machine": "an abacus",
              "lines": {str(at): line for at, line in enumerate(lines)}}  # fmt: skip
    (folder / "reliability-x.json").write_text(json.dumps(values), encoding="utf-8")


def test_the_page_is_up_to_date(writer):
    page = writer.PAGE.read_text(encoding="utf-8")
    assert writer.render(page) == page, "run `make docs`"


def test_lines_and_exceptions_of_every_stored_file_are_on_the_page(writer, tmp_path):
    store(tmp_path, stored_line(), stored_line(tried="`align`", held=24, exceptions=["1: a hang"]))
    page = writer.render(writer.PAGE.read_text(encoding="utf-8"), stored=tmp_path)
    expected = (
        "## Kills",
        "| `train` killed | the same weights | 25 | 25 (all) |",
        "| `align` | the same weights | 25 | 24 (96%) |",
        "- `align`: 1: a hang",
        "`python benchmarks/x.py`, `benchmarks/results/reliability-x.json`, an abacus, 2026-01-02.",
    )
    assert [text for text in expected if text not in page] == []
    assert writer.render(page, stored=tmp_path) == page


@pytest.mark.parametrize(
    "line", [{"held": 24}, {"held": 26, "exceptions": ["a"]}, {"exceptions": ["nothing failed"]}]
)
def test_a_failure_without_a_name_is_refused(writer, tmp_path, line):
    store(tmp_path, stored_line(**line))
    with pytest.raises(ValueError, match="`train` killed"):
        writer.sections(tmp_path)


def test_results_in_forms_of_their_own_are_counted(writer, tmp_path):
    cells = {"hit": {"refused": 3, "told": 1, "right": 5, "wrong": 2}}
    results = {
        "kill_runs-2026-01-01": {"kills": 9, "half_written": 0, "wrong_after_resume": 0},
        "kill_runs-2026-01-02": {"kills": 20, "half_written": 1, "wrong_after_resume": 0},
        "damaged_files": {"counts": {"XY": cells, "Z": cells}},
        "fuzz_files": {"files": 7, "kinds": {"a": {}}, "crashes": [1], "hangs": [],
                       "half_written": [], "read_but_not_written": []},
        "mutation": {"a": {"tried": 5, "noticed": 4}, "b": {"tried": 1, "noticed": 1}},
    }  # fmt: skip
    for name, values in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
    (section,) = writer.sections(tmp_path)
    assert [(line.times, line.held) for line in section.lines] == [
        (20, 19),
        (12, 8),
        (7, 6),
        (6, 5),
    ]
    assert "XY 2, Z 2" in section.lines[1].exceptions[0]
