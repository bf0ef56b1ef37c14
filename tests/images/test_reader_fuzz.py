"""Damaged files of every kind, a few of each; `benchmarks/fuzz_files.py` has the full run."""

import json
from pathlib import Path

import pytest

from benchmarks.fuzz_files import SEEDS, damaged_file, fuzz

PAGE = Path(__file__).parents[2] / "docs" / "files.md"
RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "fuzz_files.json"


def test_damaged_files_give_an_image_or_a_readable_error(tmp_path):
    findings = fuzz(2, tmp_path)
    assert findings.passed, findings
    assert sum(findings.read.values()) + sum(findings.refused.values()) == 2 * len(SEEDS)
    assert findings.read.total() > 5
    assert findings.refused.total() > 20


@pytest.mark.parametrize("kind", ["png", "tiff", "avif"])
def test_damage_is_the_same_every_time_and_differs_by_number(kind):
    assert damaged_file(kind, 3) == damaged_file(kind, 3)
    assert len({damaged_file(kind, number) for number in range(20)}) > 15


def test_the_page_says_what_was_run():
    result = json.loads(RESULT.read_text())
    assert result["sound"]
    assert result["files"] >= 2000
    assert f"{result['files']:,} files of {len(result['kinds'])} kinds" in PAGE.read_text("utf-8")
