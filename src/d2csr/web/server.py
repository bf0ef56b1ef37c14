"""The server of the page: its temporary files, its address, and its end."""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from d2csr.core.bundle import Bundle
from d2csr.core.errors import UsageError
from d2csr.core.files import scratch_folder
from d2csr.upscale.options import ComputeOptions
from d2csr.web.choices import Models
from d2csr.web.downloads import add_routes
from d2csr.web.guard import Access, Guard
from d2csr.web.jobs import JobQueue
from d2csr.web.sessions import Sessions

if TYPE_CHECKING:
    from d2csr.web.page import Page

DEFAULT_PORT = 7860
_PORTS_TRIED = 20
_STATIC = Path(__file__).parent / "static"
_SECONDS_TO_CLOSE = 2  # for answers under way, when the server ends
_HEAD = '<script type="module" src="/page/compare.js"></script>'
_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONOSPACE_FONTS = ("ui-monospace", "Consolas", "monospace")
_END_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

# Gradio would report its use, look for newer versions, and keep a history in the browser.
_ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SSR_MODE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True)
class ServerOptions:
    """How the page is served.

    Attributes:
        access: who may use it.
        port: of the address; None takes the first free one from 7860.
        compute: what computes the results, and its limits.
    """

    access: Access
    port: int | None
    compute: ComputeOptions


def serve(
    bundles: Sequence[Bundle], options: ServerOptions, *, on_start: Callable[[str], object]
) -> None:
    """Serve the page until SIGINT, SIGTERM or SIGHUP; then remove everything that it has written.

    Args:
        bundles: the models to choose from.
        options: how the page is served.
        on_start: called with the page's URL when it can be opened.

    Raises:
        UsageError: the address can't be used.
    """
    with (
        _end_signals_as_interrupt(),
        _listen(options.access.host, options.port) as listener,
        scratch_folder() as folder,
    ):
        queue = JobQueue()
        try:
            sessions = Sessions(folder, queue)
            os.environ.update(_ENVIRONMENT, GRADIO_TEMP_DIR=str(sessions.uploads))
            from d2csr.web.page import Page  # imports Gradio, which reads the environment

            page = Page(queue, sessions, Models(bundles), options.compute)
            app = build_app(page, options.access)
            config = uvicorn.Config(
                app,
                log_level="warning",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_SECONDS_TO_CLOSE,
            )
            on_start(_url(listener))
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:  # raised again by uvicorn, after it has closed
            pass
        finally:
            queue.close()


def build_app(page: "Page", access: Access) -> FastAPI:
    """Return the application: the page, its static files, and the results by address."""
    from gradio import mount_gradio_app
    from gradio.themes import Default

    app = FastAPI(openapi_url=None)
    app.add_middleware(Guard, access=access)
    app.mount("/page", StaticFiles(directory=_STATIC))
    add_routes(app, page.queue, limit_mp=page.compute.limit_mp)
    return mount_gradio_app(
        app,
        page.build(),
        path="",
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=access.upload_bytes,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=Default(
            primary_hue="blue", neutral_hue="slate", font=_FONTS, font_mono=_MONOSPACE_FONTS
        ),
        css_paths=_STATIC / "page.css",
        head=_HEAD,
    )


@contextmanager
def _listen(host: str, port: int | None) -> Iterator[socket.socket]:
    """Yield a listening socket at an address.

    Raises:
        UsageError: the address isn't this machine's, or all ports are taken.
    """
    tried = range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED) if port is None else (port,)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem = ""
    for each in tried:
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, each))
        except OSError as error:
            listener.close()
            problem = f"can't be used: {error.strerror or error}"
            continue
        with listener:
            listener.listen()
            yield listener
        return
    remedy = "Choose another --port, or leave --host out."
    raise UsageError(f"{host}:{tried[-1]}", problem, remedy)


def _url(listener: socket.socket) -> str:
    """Return the address of the page for the browser of this machine."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # all addresses, this machine's own among them
        host = "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


@contextmanager
def _end_signals_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt for the signals that end a server, while the block runs.

    uvicorn closes at SIGTERM and SIGINT, and raises the signal again afterwards. A job's process
    gets the signals of the terminal as well.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in _END_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
