"""The list of what is done: what counts as done, and what a kill may leave of the list."""

import json
import os

import pytest

from d2csr.core.errors import UsageError
from d2csr.upscale.journal import JOURNAL_NAME, Journal, settings_hash


@pytest.fixture
def out(tmp_path):
    """Return a folder of results with one finished image of two files."""
    (tmp_path / "deep").mkdir()
    for name in ("deep/a.png", "deep/a_bicubic.png"):
        (tmp_path / name).write_bytes(name.encode())
    files = [tmp_path / "deep/a.png", tmp_path / "deep/a_bicubic.png"]
    Journal(tmp_path).add(files, input_sha256="in", settings="how")
    return tmp_path


def _holds(out, *, input_sha256: str = "in", settings: str = "how") -> bool:
    target = out / "deep" / "a.png"
    return Journal(out).is_complete(target, input_sha256=input_sha256, settings=settings)


def test_the_same_input_and_settings_are_done(out):
    assert _holds(out)


def test_a_changed_input_is_not_done(out):
    assert not _holds(out, input_sha256="other")


def test_other_settings_are_not_done(out):
    assert not _holds(out, settings="other")


@pytest.mark.parametrize("change", [b"short", b"deep/a_bicubic.pnG", None])
def test_a_changed_or_missing_result_is_not_done(out, change):
    file = out / "deep" / "a_bicubic.png"
    if change is None:
        file.unlink()
    else:
        file.write_bytes(change)
    assert not _holds(out)


def test_a_moved_folder_is_still_done(out, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "out"
    out.rename(moved)
    assert _holds(moved)


@pytest.mark.parametrize("kept_bytes", range(0, 300, 23))
def test_a_torn_line_is_passed_over_and_later_ones_count(out, kept_bytes):
    path = out / JOURNAL_NAME
    line = path.read_bytes()
    path.write_bytes(line + line[:kept_bytes].rstrip(b"\n"))
    assert _holds(out)
    Journal(out).add([out / "deep" / "a.png"], input_sha256="new", settings="how")
    assert _holds(out, input_sha256="new")
    assert not _holds(out)


def test_a_line_of_another_version_is_passed_over(out):
    path = out / JOURNAL_NAME
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"version": 2}) + "\n")
    assert not _holds(out)


def test_settings_are_told_apart_by_values_not_by_order():
    assert settings_hash({"a": 1, "b": {"c": 2}}) == settings_hash({"b": {"c": 2}, "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"version": 1}',
        '{"version": true, "input_sha256": "a", "settings": "b", "files": []}',
        '{"version": 1, "input_sha256": "a", "settings": "b", "files": []}',
        '{"version": 1, "input_sha256": 1, "settings": "b", "files": [%s]}',
        '{"version": 1, "input_sha256": "a", "settings": "b", "files": [[]]}',
        '{"version": 1, "input_sha256": "a", "settings": "b", "files": [{"path": 1}]}',
        '{"version": ' + "9" * 5000 + "}",
        "null",
        "1e999",
        "\0",
    ],
)
def test_a_line_of_another_schema_is_ignored(tmp_path, line):
    file = '{"path": "a.png", "bytes": 1, "sha256": "c"}'
    good = f'{{"version": 1, "input_sha256": "a", "settings": "b", "files": [{file}]}}'
    text = "\n".join([line.replace("%s", file), good.replace("a.png", "b.png"), ""])
    (tmp_path / JOURNAL_NAME).write_text(text)
    journal = Journal(tmp_path)
    assert journal.find("a.png") is None
    assert journal.find("b.png") is not None


@pytest.mark.timeout(20)
def test_a_journal_that_is_no_file_is_an_error_at_once(tmp_path):
    os.mkfifo(tmp_path / JOURNAL_NAME)
    with pytest.raises(UsageError, match="is not a regular file"):
        Journal(tmp_path)
