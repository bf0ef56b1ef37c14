"""The console on standard error, and progress that leaves standard output alone."""

import sys

import pytest
from rich.progress import TextColumn

from d2csr.core.console import (
    console,
    print_error,
    print_line,
    print_note,
    progress_display,
    track,
)
from d2csr.core.errors import ImageError


def test_notes_go_to_standard_error_and_results_stay_alone_on_standard_output(capsys):
    console().print("a note about [1,2,3]", markup=False)
    sys.stdout.write("a result\n")
    printed = capsys.readouterr()
    assert printed.out == "a result\n"
    assert printed.err == "a note about [1,2,3]\n"  # no colors, no brackets taken for markup


def test_lines_errors_and_notes_escape_control_characters(capsys):
    print_line("a\nb", "c\x1b")
    print_note("[red]:smile:\x1b[2J")
    print_error(ImageError("a\x07", "is empty", "Remove it."))
    printed = capsys.readouterr()
    assert printed.out == "a\\u000ab\nc\\u001b\n"
    assert printed.err == "[red]:smile:\\u001b[2J\nerror: a\\u0007: is empty. Remove it.\n"


def test_every_caller_shares_one_console():
    assert console() is console()


def test_tracked_items_pass_unchanged_and_leave_standard_output_empty(capsys):
    assert list(track(iter("abc"), description="Counting", total=3)) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""


def test_an_error_between_tracked_items_is_raised_as_it_is():
    def items():
        yield 1
        raise KeyError("second")

    counted = track(items(), description="Counting", total=2)
    assert next(counted) == 1
    with pytest.raises(KeyError, match="second"):
        next(counted)


def test_a_description_in_brackets_is_shown_as_it_is():
    with progress_display(TextColumn("{task.fields[rate]}")) as progress:
        progress.add_task("[red].png", total=1, rate="2 MP/s")
        with console().capture() as shown:
            console().print(progress.get_renderable())
    assert "[red].png" in shown.get()
    assert "2 MP/s" in shown.get()
