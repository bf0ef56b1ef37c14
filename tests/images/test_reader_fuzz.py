"""Damaged files of every kind, a few of each; `benchmarks/fuzz_files.py` has the full run."""

import json
from pathlib import Path

import pytest

from benchmarks.fuzz_files import SEEDS, fuzz, mutated

PAGE = Path(__file__).parents[2] / "docs" / "files.md"
RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "fuzz_files.json"


def test_damaged_files_give_a_image_or_plain_words(tmp_path):
    findings = fuzz(2, tmp_path)
    assert findings.sound, findings
    assert sum(findings.read.values()) + sum(findings.refused.values()) == 2 * len(SEEDS)
    assert findings.read.total() > 5
    assert findings.refused.total() > 20


@pytest.mark.parametrize("kind", ["png", "tiff", "avif"])
def test_damage_is_the_same_every_time_and_differs_by_number(kind):
    assert mutated(kind, 3) == mutated(kind, 3)
    assert len({mutated(kind, number) for number in range(20)}) > 15


def test_the_page_says_what_was_run():
    told = json.loads(RESULT.read_text())
    assert told["sound"]
    assert told["files"] >= 2000
    assert f"{told['files']:,} files of {len(told['kinds'])} kinds" in PAGE.read_text("utf-8")
