"""Continuous integration and the bug report: they parse, and ask for what the project relies on."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
REPORT = yaml.safe_load(
    (ROOT / ".github/ISSUE_TEMPLATE/bug_report.yml").read_text(encoding="utf-8")
)


def test_the_workflow_runs_the_script_of_continuous_integration_and_nothing_else():
    (job,) = WORKFLOW["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_the_workflow_runs_the_oldest_python_that_is_supported():
    (job,) = WORKFLOW["jobs"].values()
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    versions = job["strategy"]["matrix"]["python-version"]
    assert versions == ["3.11", "3.12"]
    assert pyproject["project"]["requires-python"] == f">={versions[0]}"


def test_a_bug_report_requires_the_command_the_photo_and_what_doctor_prints():
    assert {"name", "description", "body"} <= set(REPORT)
    required = {
        field["id"]: field["attributes"]["label"]
        for field in REPORT["body"]
        if field["validations"]["required"]
    }
    assert set(required) == {"command", "result", "photo", "doctor"}
    assert "`d2csr doctor`" in required["doctor"]
