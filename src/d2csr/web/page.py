"""The page: controls, queue, and the views of results, built of Gradio's components."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from d2csr.core.errors import D2csrError, UsageError
from d2csr.images.formats import IMAGE_SUFFIXES
from d2csr.images.strength import MAX_STRENGTH, MODEL_STRENGTH
from d2csr.upscale.options import ComputeOptions
from d2csr.web import views
from d2csr.web.choices import FORMATS, MAPS, WIDTH, Choices, Models
from d2csr.web.jobs import Job, JobQueue
from d2csr.web.results import Result, find_result
from d2csr.web.sessions import Sessions
from d2csr.web.worker import JobRequest

TITLE = "d2csr: enlarge photos"
_TICK_SECONDS = 0.5
_KINDS = {"uncertainty": "Uncertainty", "prediction": "Predictions", "weight": "Weights"}

_QUIET: dict[str, Any] = {  # of all events: no animation over what is shown
    "preprocess": False,
    "show_progress": "hidden",
    "api_visibility": "private",
}
# A plain request, which can't show an error as a message. An event of Gradio's queue can be lost if
# another one has just ended (its stream of answers closes), so only one handler uses the queue.
_PLAIN: dict[str, Any] = _QUIET | {"queue": False}
_WITH_MESSAGES: dict[str, Any] = _QUIET | {"concurrency_limit": None}


@final
@dataclass(frozen=True, eq=False)
class Page:
    """What the handlers of the page need.

    Attributes:
        queue: the jobs of all tabs.
        sessions: the photos of all tabs.
        models: the models to choose from.
        compute: what computes the results, and its limits.
    """

    queue: JobQueue
    sessions: Sessions
    models: Models
    compute: ComputeOptions

    def build(self) -> gr.Blocks:
        """Return the page; Gradio calls its handlers, each with the session of the tab."""
        with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
            gr.HTML(views.HEADER)
            with gr.Row(equal_height=False):
                with gr.Column(scale=1, min_width=310, elem_id="controls"):
                    controls = self._add_controls()
                    with gr.Row():
                        start = gr.Button(
                            "Enlarge", variant="primary", min_width=100, elem_id="start"
                        )
                        cancel = gr.Button(
                            "Cancel", interactive=False, min_width=100, elem_id="cancel"
                        )
                with gr.Column(scale=3, min_width=480):
                    status = gr.HTML(views.WELCOME, elem_id="status")
                    result = gr.Dropdown(
                        container=False, visible=False, filterable=False, elem_id="result"
                    )
                    shown = _add_result()
            count, timer = gr.State(0), gr.Timer(_TICK_SECONDS, active=False)
            live = [status, cancel, timer, result, count]
            start.click(self.start, [*controls, count], live, **_WITH_MESSAGES)
            cancel.click(self.cancel, count, live, **_PLAIN)
            timer.tick(self.tick, count, live, **_PLAIN)
            result.change(self.show, result, shown, **_PLAIN)
            blocks.unload(self.leave)
        return blocks

    def _add_controls(self) -> list[Component]:
        """Add the controls, and return those whose values `start` gets, in its order."""
        photos = gr.File(
            label="Photos",
            file_count="multiple",
            file_types=sorted(IMAGE_SUFFIXES),
            height=190,
            elem_id="photos",
        )
        sizes = self.models.sizes
        size = gr.Radio(sizes, value=sizes[0], label="How much larger", elem_id="size")
        width = gr.Number(
            3000, label="Width in pixels", precision=0, minimum=1, visible=False, elem_id="width"
        )
        model = gr.Dropdown(
            self.models.choices(sizes[0]),
            value=self.models.default(sizes[0]),
            label="Model",
            info=self.models.describe(self.models.default(sizes[0])),
            filterable=False,
            elem_id="model",
        )
        strength = gr.Slider(
            0, MAX_STRENGTH, MODEL_STRENGTH, step=0.05, label="Strength", elem_id="strength",
            info="0 is plain enlargement, 1 the model's result, more exaggerates it",
        )  # fmt: skip
        format_ = gr.Dropdown(list(FORMATS), label="Format", filterable=False, elem_id="format")
        maps = gr.CheckboxGroup(list(MAPS), label="Also show", elem_id="maps")
        size.change(self.choose_size, size, [width, model], **_PLAIN)
        model.change(self.choose_model, model, model, **_PLAIN)
        photos.change(self.keep, photos, None, **_PLAIN)
        return [photos, size, width, model, strength, format_, maps]

    def choose_size(self, size: str) -> tuple[Any, Any]:
        """Return the width and the models for an enlargement."""
        value = self.models.default(size)
        info = self.models.describe(value)
        model = gr.Dropdown(self.models.choices(size), value=value, info=info)
        return gr.Number(visible=size == WIDTH), model

    def choose_model(self, value: str) -> Any:
        """Return the models with the sentence on the chosen one."""
        try:
            info = self.models.describe(value)
        except D2csrError as error:
            info = str(error)
        return gr.Dropdown(info=info)

    def keep(self, files: list[Mapping[str, Any]] | None, request: gr.Request) -> None:
        """Register the photos of a tab, and remove those that it no longer lists.

        Errors in them are reported by `start`.
        """
        with suppress(D2csrError):
            self.sessions.keep(_session(request), files or [])

    def start(  # noqa: PLR0913, PLR0917 - one argument per control, in the order of the page
        self,
        files: list[Mapping[str, Any]] | None,
        size: str,
        width: float | None,
        model: str,
        strength: float,
        format_: str,
        maps: list[str],
        count: int,
        request: gr.Request,
    ) -> list[Any]:
        """Queue a job with the photos of a tab, and return the parts of the page that change."""
        with _errors_as_messages():
            choices = Choices(size, width, model, strength, format_, tuple(maps))
            self._submit(choices, files or [], session=_session(request))
        return self._live(_session(request), count)

    def _submit(self, choices: Choices, files: list[Mapping[str, Any]], *, session: str) -> None:
        photos = self.sessions.keep(session, files)
        if not photos:
            raise UsageError("Photos", "there are none yet", "Drop one on the left, or paste one.")
        options, notes = choices.options(self.models)
        folder = self.sessions.new_folder(photos)
        request = JobRequest(
            tuple(sorted((folder / "photos").iterdir())),
            folder / "results",
            model=choices.bundle_name(self.models),
            options=options,
            compute=self.compute,
        )
        photo = photos[0].name if len(photos) == 1 else f"{len(photos)} photos"
        self.queue.submit(
            Job(request, folder, session, photo, choices.describe(self.models), notes)
        )

    def cancel(self, count: int, request: gr.Request) -> list[Any]:
        """Cancel the jobs of a tab, and return the parts of the page that change."""
        self.queue.cancel(_session(request))
        return self._live(_session(request), count)

    def tick(self, count: int, request: gr.Request) -> list[Any]:
        """Return the parts of the page that change while jobs run."""
        return self._live(_session(request), count)

    def _live(self, session: str, count: int) -> list[Any]:
        """Return the queue, whether it can be cancelled, and the results if there are new ones."""
        jobs = self.queue.jobs_of(session)
        is_active = any(not job.is_finished for job in jobs)
        found = [Result(job, index) for job in jobs for index in range(len(job.done))]
        results = [
            (f"{Path(each.report.source).name}, {each.job.choices}", each.name) for each in found
        ]
        update = gr.skip()
        if len(results) != count:
            update = gr.Dropdown(results, value=results[-1][1], visible=len(results) > 1)
        return [
            views.render_queue([(job, self.queue.count_before(job)) for job in jobs]),
            gr.Button(interactive=is_active),
            gr.Timer(active=is_active),
            update,
            len(results),
        ]

    def show(self, choice: str | None) -> list[Any]:
        """Return the views of a result: before and after, its maps, its downloads."""
        result = find_result(self.queue, choice or "")
        if result is None:
            return [gr.skip() for _ in range(3 + 2 * len(_KINDS))]
        found, render = result.layers, views.render_compare
        before, after = found["before"], found["after"]
        shown = [views.render_downloads(result), gr.Tabs(visible=True)]
        shown.append(render(result, left=before, rights=[after]))
        for kind in _KINDS:
            rights = [each for name, each in found.items() if name.startswith(kind)]
            view = render(result, left=after, rights=rights) if rights else ""
            shown += [gr.Tab(visible=bool(rights)), view]
        return shown

    def leave(self, request: gr.Request) -> None:
        """Forget a tab that was closed or reloaded: its jobs, photos and results."""
        self.sessions.forget(_session(request))


def _add_result() -> list[Block]:
    """Add the views of a result, and return those that `show` fills, in its order."""
    downloads = gr.HTML("", elem_id="downloads")
    with gr.Tabs(visible=False, elem_id="tabs") as tabs:
        with gr.Tab("Before and after"):
            shown = [downloads, tabs, gr.HTML("", elem_id="compare")]
        for kind, label in _KINDS.items():
            with gr.Tab(label, visible=False, elem_id=f"tab-{kind}") as tab:
                shown += [tab, gr.HTML("", elem_id=f"compare-{kind}")]
    return shown


def _session(request: gr.Request) -> str:
    """Return the name of the tab that a request comes from, which its browser has made up."""
    return str(request.session_hash)


@contextmanager
def _errors_as_messages() -> Iterator[None]:
    """Show errors of the user on the page; Gradio takes the message as HTML."""
    try:
        yield
    except D2csrError as error:
        raise gr.Error(
            views.text(error), title="That didn't work", duration=None, print_exception=False
        ) from error
