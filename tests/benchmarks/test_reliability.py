"""Running commands disturbed: the counts, and two cases on a command of a moment."""

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Return the function that imports the benchmark or a part of it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_a_case_is_counted_with_its_exceptions_and_replaces_its_line(load, tmp_path):
    runs = load("reliability")
    name, path = "kill-train", tmp_path / "results.json"
    for times in (4, 3):
        case = runs.Case("a", "b", lambda folder, times: iter(["", "hung", "hung", ""][:times]))
        runs.store(name, runs.count(case, times), path=path)
    stored = json.loads(path.read_text())["lines"]
    assert stored.keys() == {name}
    assert {key: stored[name][key] for key in ("tried", "times", "held", "exceptions")} == {
        "tried": "a", "times": 3, "held": 1, "exceptions": ["2 of 3: hung"],
    }  # fmt: skip


def test_stored_lines_are_of_cases_that_exist(load):
    runs = load("reliability")
    lines = json.loads(runs.RESULTS.read_text(encoding="utf-8"))["lines"]
    described = {name: (each.tried, each.expected) for name, each in runs.CASES.items()}
    assert {name: (line["tried"], line["expected"]) for name, line in lines.items()} == {
        name: described[name] for name in lines
    }


@pytest.mark.parametrize("case", ["kill-simulate", "memory-simulate"])
def test_a_command_survives_it(load, tmp_path, case):
    assert list(load("reliability").CASES[case].run(tmp_path, 1)) == [""]


def test_a_half_written_file_and_a_wrong_result_are_noticed(load, tmp_path):
    subjects = load("reliability_cases.subjects")
    subject = subjects.Subject(lambda output: [str(output)])
    whole = subjects.Whole({"a.png": b"right", "b.png": b"right"}, 1.0, subject)
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"right")
    assert (whole.incomplete(tmp_path), whole.differs(tmp_path)) == ("", "")
    (tmp_path / "b.png").unlink()
    assert whole.incomplete(tmp_path) == ""
    assert whole.differs(tmp_path).startswith("b.png differs")
    (tmp_path / "b.png").write_bytes(b"ri")
    assert whole.incomplete(tmp_path) == "b.png is not complete"


@pytest.mark.parametrize(
    ("code", "err", "problem"),
    [
        (0, "", ""),
        (2, "error: no", "exit code 2: error: no"),
        (-7, "", "ended by signal 7"),
        (0, "Traceback\nKeyError: 'a'", "a traceback: KeyError: 'a'"),
        (-1000, "", "hung"),
    ],
)
def test_how_a_process_ended_is_told(load, code, err, problem):
    assert load("reliability_cases.subjects").Ended(code, "", err).problem(0) == problem
