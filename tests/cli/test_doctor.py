"""Command `doctor`: its report and exit code on working and on broken machines."""

import sys

import pytest

from d2csr.cli import doctor as module
from d2csr.cli.doctor import Finding
from d2csr.core.errors import BundleError
from d2csr.engine.backends.base import BACKENDS


@pytest.fixture
def checks(monkeypatch):
    """Return a function that leaves a single check, with a finding or an error as its outcome."""

    def put(outcome: str | Exception) -> None:
        def check():
            if isinstance(outcome, Exception):
                raise outcome
            yield Finding("thing", outcome, "text")

        monkeypatch.setattr(module, "_CHECKS", {"thing": check})

    return put


def test_everything_works_on_the_machine_that_runs_the_tests(d2csr):
    answer = d2csr("doctor")
    assert answer.code == 0, answer.out
    topics = [line.split()[1] for line in answer.out.splitlines()]
    assert list(dict.fromkeys(topics)) == list(module._CHECKS)


def test_all_core_formats_are_read_and_written(d2csr):
    (line,) = [line for line in d2csr("doctor").out.splitlines() if " images " in line]
    assert line.count("JPEG, PNG, WebP, TIFF") == 2


@pytest.mark.parametrize(
    ("state", "code"), [("works", 0), ("absent", 0), ("partly", 1), ("broken", 2)]
)
def test_the_worst_finding_sets_the_exit_code(d2csr, checks, state, code):
    checks(state)
    assert d2csr("doctor") == (code, f"{state:7} thing       text\n", "")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            BundleError("m", "hash differs", remedy="Install again."),
            "m: hash differs. Install again.",
        ),
        (ImportError("libfoo.so\nmore"), "ImportError: libfoo.so"),
    ],
    ids=["user", "library"],
)
def test_a_check_that_fails_is_a_finding(d2csr, checks, error, text):
    checks(error)
    answer = d2csr("doctor")
    assert (answer.code, answer.err) == (2, "")
    assert answer.out == f"broken  thing       {text}\n"


def test_a_missing_data_folder_is_reported(d2csr, monkeypatch, tmp_path):
    monkeypatch.setenv("D2CSR_DATA", str(tmp_path / "gone"))
    answer = d2csr("doctor")
    assert answer.code == 1
    assert (
        f"partly  data        D2CSR_DATA is {tmp_path / 'gone'}, which is not a folder"
        in answer.out
    )


def test_every_backend_has_a_line_and_every_model_names_its_backend(d2csr):
    lines = d2csr("doctor").out.splitlines()
    backends = [line.split()[2] for line in lines if line.split()[1] == "backends"]
    assert backends == list(BACKENDS)
    models = [line for line in lines if line.split()[1] == "models"]
    assert all("`auto` runs it on" in line for line in models)


def test_a_backend_that_is_not_installed_is_absent_with_its_remedy(d2csr, monkeypatch):
    monkeypatch.setattr(
        "d2csr.engine.backends.base.is_installed", lambda name: name not in ("onnxruntime", "torch")
    )
    answer = d2csr("doctor")
    assert answer.code == 0
    assert "absent  backends    onnxruntime: no onnxruntime; pip install" in answer.out


def test_torch_may_be_absent(d2csr, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    answer = d2csr("doctor")
    assert answer.code == 0
    assert "absent  training" in answer.out


def test_without_a_list_of_features_none_are_known(d2csr, monkeypatch):
    monkeypatch.setattr(module, "cpu_flags", frozenset)
    assert "has none known" in d2csr("doctor").out


def test_a_missing_openvino_is_broken(d2csr, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    answer = d2csr("doctor")
    assert answer.code == 2
    assert "broken  engine" in answer.out


def test_a_damaged_model_does_not_hide_the_others(d2csr, monkeypatch):
    monkeypatch.setattr("d2csr.engine.model.shipped_names", lambda: ["gone", "lost"])
    answer = d2csr("doctor")
    assert answer.code == 2
    assert answer.out.count("broken  models") == 2
