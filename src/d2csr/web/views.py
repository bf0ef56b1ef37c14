"""Views: the HTML of the queue, of results under the slider, and of downloads.

Every text that comes from outside, such as the name of a file, is escaped here.
"""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from d2csr.core.console import printable
from d2csr.core.errors import D2csrError
from d2csr.web.jobs import Job
from d2csr.web.results import Layer, Result

HEADER = """
<header class="d2csr-header"><h1>d2csr</h1>
<p>Enlarges photographs on this machine. Nothing leaves it, and nothing is kept when this page is
closed.</p></header>
"""
WELCOME = """
<div class="d2csr-welcome"><p>Drop photos on the left, or paste one, and press <b>Enlarge</b>.</p>
<p>The result appears here, beside the original.</p></div>
"""
_STATES = {"waiting": "waiting", "running": "working", "done": "done", "cancelled": "cancelled"}


def text(value: object) -> str:
    """Return a text from outside as HTML, without control characters."""
    return escape(printable(value))


def render_queue(jobs: Sequence[tuple[Job, int]]) -> str:
    """Return the jobs of a tab as HTML, the newest first.

    Args:
        jobs: each with the number of jobs that will be finished before it begins.
    """
    rows = "".join(_render_job(job, before=before) for job, before in reversed(jobs))
    return f'<div class="d2csr-queue">{rows}</div>' if rows else WELCOME


def _render_job(job: Job, *, before: int) -> str:
    """Return one job: its photos, its state in words, a bar while it runs, and its messages."""
    bar = ""
    if job.state == "running":
        done = 0.0 if job.progress is None else job.progress.done
        bar = f'<progress max="1" value="{done:.3f}"></progress>'
    messages = "".join(f'<li class="error">{text(_in_words(each))}</li>' for each in _errors(job))
    warnings = [(Path(each.source).name, words) for each in job.reports for words in each.warnings]
    messages += "".join(f"<li>{text(f'{name}: {words}')}</li>" for name, words in warnings)
    messages += "".join(f"<li>{text(each)}</li>" for each in job.notes)
    listed = f"<ul>{messages}</ul>" if messages else ""
    return (
        f'<section class="job {job.state}" data-state="{job.state}">'
        f"<p><b>{text(job.photos)}, {text(job.choices)}</b> "
        f"<span>{text(_describe_state(job, before))}</span></p>{bar}{listed}</section>"
    )


def _describe_state(job: Job, before: int) -> str:
    """Return the state of a job in words."""
    if job.state == "waiting":
        ahead = "another is" if before == 1 else f"{before} others are"
        return f"waiting: {ahead} before it" if before else "waiting"
    if job.state == "running":
        if job.progress is None:
            return "starting"
        progress = job.progress
        count = f"photo {min(progress.images_done + 1, progress.images)} of {progress.images}, "
        parts = count if progress.images > 1 else ""
        if progress.done >= 1:
            return "writing the files"
        left = job.seconds_left
        return f"{parts}{progress.done:.0%}" + ("" if left is None else f", {_in_time(left)} left")
    failed = len(_errors(job))
    parts = [_STATES[job.state]]
    if len(job.request.inputs) > 1 or failed:
        parts.append(f"{len(job.done)} of {len(job.request.inputs)} photos")
    return ", ".join(parts)


def _in_time(seconds: float) -> str:
    """Return a time in words, of the accuracy of an estimate."""
    if seconds < 50:
        return f"about {max(5, 5 * round(seconds / 5))} seconds"
    minutes = round(seconds / 60)
    if minutes < 100:
        return "about 1 minute" if minutes <= 1 else f"about {minutes} minutes"
    return f"about {round(seconds / 3600)} hours"


def _errors(job: Job) -> list[D2csrError]:
    return [each.error for each in job.reports if each.error is not None] + job.errors


def _in_words(error: D2csrError) -> str:
    """Return an error with the name of the photo instead of its path on this machine."""
    name = Path(error.where).name if "/" in error.where else error.where
    return str(type(error)(name, error.problem, error.remedy))


def render_compare(result: Result, *, left: Layer, rights: Sequence[Layer]) -> str:
    """Return two images of a result under a slider, the right one chosen among several.

    Args:
        result: the result.
        left: the image on the left of the slider.
        rights: the images to choose from for its right.
    """

    def attribute(value: object) -> str:
        return escape(json.dumps(value), quote=True)

    def layer(each: Layer) -> dict[str, object]:
        url = f"/results/{result.name}/{each.name}"
        return {"label": each.label, "url": url, "enlarged": each.name == "before"}

    size = result.report.sr_size
    return (
        f'<d2csr-compare data-view="{result.name}" data-size="{size.width} {size.height}" '
        f'data-left="{attribute(layer(left))}" '
        f'data-right="{attribute([layer(each) for each in rights])}"></d2csr-compare>'
    )


def render_downloads(result: Result) -> str:
    """Return the sizes of a result, and links to its files and to all results of the job."""
    job, report = result.job, result.report
    own, *maps = [
        f'<a href="/results/{result.name}/files/{number}" download>'
        f"{text(Path(file).name)} <small>{_file_size(Path(file))}</small></a>"
        for number, file in enumerate(report.files)
    ]
    if maps:
        own += f"<details><summary>Maps</summary>{''.join(maps)}</details>"
    if maps or len(job.done) > 1:
        own += f'<a href="/results/{job.token}/zip" download>All files, as a zip</a>'
    sizes = f"{report.lr_size} pixels became {report.sr_size}"
    return f'<div class="d2csr-downloads">{own}<p>{text(sizes)}</p></div>'


def _file_size(path: Path) -> str:
    """Return the size of a file in words; empty if it is gone."""
    try:
        size = path.stat().st_size
    except OSError:
        return ""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.0f} kB"
