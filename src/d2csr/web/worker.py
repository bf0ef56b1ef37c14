"""The process of one job: `upscale_files` on uploaded photos, its progress sent through a pipe.

A job has a process of its own so that it is the same run as `d2csr upscale`, with all the memory
that it may use; so that it can be cancelled at any moment; and so that an image that ends the
process, for lack of memory, doesn't end the page.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

from d2csr.core.errors import D2csrError
from d2csr.upscale.options import DEFAULT_COMPUTE, DEFAULT_OUTPUT, ComputeOptions, OutputOptions
from d2csr.upscale.report import ImageReport, Observer, Progress

_SECONDS_BETWEEN = 0.1  # messages on the progress of one image


@dataclass(frozen=True)
class JobRequest:
    """The arguments of `upscale_files` for one job.

    Attributes:
        inputs: the photos.
        output: an empty folder for the results.
        model: name of a shipped model or folder of a bundle; None takes the default of the scale.
        scale: of the model; None takes the smallest that reaches the size of the results.
        options: which files are made from each photo.
        compute: what computes them, and its limits.
    """

    inputs: tuple[Path, ...]
    output: Path
    model: str | None = None
    scale: int | None = None
    options: OutputOptions = DEFAULT_OUTPUT
    compute: ComputeOptions = DEFAULT_COMPUTE


@dataclass(frozen=True)
class End:
    """The last message of a process that has not crashed.

    Attributes:
        errors: of inputs without an image, or of the whole job.
        interrupted: whether the job was ended early.
    """

    errors: tuple[D2csrError, ...] = ()
    interrupted: bool = False


Message = Progress | ImageReport | End


def run_job(request: JobRequest, pipe: Connection) -> None:
    """Upscale the photos of a request and send its progress, reports and end through a pipe."""
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        from d2csr.upscale.run import sigterm_as_interrupt, upscale_files  # imports OpenVINO

        observer = Observer(on_progress=_throttled(pipe.send), on_report=pipe.send)
        with sigterm_as_interrupt():
            summary = upscale_files(
                request.inputs,
                request.output,
                model=request.model,
                scale=request.scale,
                options=request.options,
                compute=request.compute,
                observer=observer,
            )
        pipe.send(End(summary.errors, summary.interrupted))
    except D2csrError as error:
        pipe.send(End((error,)))
    except (KeyboardInterrupt, BrokenPipeError):  # BrokenPipeError: the server has ended
        os._exit(1)  # the files of this job are removed by the server, or at its next start


def _end_with_server() -> None:
    """Interrupt this process when the process that started it has ended, killed or not."""
    server = parent_process()
    if server is not None:
        server.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _throttled(send: Callable[[Progress], object]) -> Callable[[Progress], object]:
    """Return a function that passes on at most one message in a tenth of a second per image."""
    last: tuple[float, tuple[str, int]] = (0.0, ("", 0))

    def on_progress(progress: Progress) -> None:
        nonlocal last
        now, image = time.monotonic(), (progress.image, progress.images_done)
        if image != last[1] or now - last[0] >= _SECONDS_BETWEEN:
            last = now, image
            send(progress)

    return on_progress
