"""The page, served by `d2csr app` in a process of its own, and a browser to look at it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'd2csr[app]'")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# `d2csr`, with a line on standard error for each address that the server connects to.
WATCHED = """
import sys
def watch(event, arguments):
    if event == "socket.connect":
        print("connects to", arguments[1], file=sys.stderr, flush=True)
sys.addaudithook(watch)
from d2csr.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Server:
    """A running page.

    Attributes:
        url: of the page.
        process: the server.
        temporary: its folder of temporary files, in which nothing else is.
        errors: file with its standard error.
    """

    url: str
    process: subprocess.Popen[str]
    temporary: Path
    errors: Path

    def files(self) -> list[str]:
        """Return the names of all files that it has in its temporary folder."""
        return sorted(name for _, _, names in os.walk(self.temporary) for name in names)

    def end(self, number: int) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


def start_server(folder: Path, *words: str) -> Server:
    """Start `d2csr app` on a free port, with a temporary folder of its own."""
    temporary, errors = folder / "temporary", folder / "errors.txt"
    temporary.mkdir(parents=True)
    command = [sys.executable, "-c", WATCHED, "app", "--no-browser", "--port", "0", *words]
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary)},
        )
    assert process.stdout is not None
    url = process.stdout.readline().split(" ")[0].rstrip("/")
    assert url.startswith("http"), errors.read_text()
    return Server(url, process, temporary, errors)


def stop_server(server: Server) -> None:
    """End a server that a test may have ended already."""
    if server.process.poll() is None:
        server.process.terminate()
    server.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """Return a server for all tests of a file."""
    server = start_server(tmp_path_factory.mktemp("server"))
    yield server
    stop_server(server)


@pytest.fixture(scope="session")
def chromium():
    """Return a browser; without one, the tests of the page are skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Tab:
    """An open page.

    Attributes:
        page: Playwright's page.
        requests: the addresses that it has requested.
        problems: errors of its scripts, and answers with an error.
    """

    page: object
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def status(self) -> str:
        """Return the queue as the user reads it."""
        return self.page.locator(".d2csr-queue").inner_text()

    def wait_for(self, text: str, *, seconds: float = 60.0) -> None:
        """Wait until the queue contains a text."""
        self.page.locator(".d2csr-queue", has_text=text).wait_for(timeout=1000 * seconds)

    def drop(self, *files: Path) -> None:
        """Add photos, as dropping them does, and wait until they are listed."""
        self.page.set_input_files("#photos input[type=file]", list(map(str, files)))
        self.page.locator("#photos tr.file").nth(len(files) - 1).wait_for()


@pytest.fixture
def open_tab(chromium, server: Server) -> Iterator[Callable[[], Tab]]:
    """Return a function that opens the page in a browser window of its own."""
    contexts = []

    def open_one() -> Tab:
        context = chromium.new_context(viewport={"width": 1280, "height": 860})
        contexts.append(context)
        tab = Tab(context.new_page())
        tab.page.set_default_timeout(60_000)
        tab.page.on("request", lambda request: tab.requests.append(request.url))
        tab.page.on("pageerror", lambda error: tab.problems.append(str(error)))
        tab.page.on(
            "response",
            lambda answer: (
                answer.status >= 400 and tab.problems.append(f"{answer.status} {answer}")
            ),
        )
        tab.page.goto(server.url)
        tab.page.locator("#start").wait_for()
        return tab

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Return a folder with a JPEG with metadata, a small and a large PNG, and a broken JPEG."""
    folder = tmp_path_factory.mktemp("photos")
    numbers = np.random.default_rng(0)
    photo = Image.fromarray(numbers.integers(0, 256, (60, 90, 3), np.uint8))
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    photo.save(folder / "Straße & Haus.jpg", quality=90, exif=exif, dpi=(300, 300))
    photo.resize((12, 8)).save(folder / "small.png")
    large = numbers.integers(0, 256, (1500, 1500, 3), np.uint8)
    Image.fromarray(large).save(folder / "large.png", compress_level=0)
    (folder / "broken.jpg").write_bytes((folder / "Straße & Haus.jpg").read_bytes()[:900])
    return folder


def eventually(condition: Callable[[], object], *, seconds: float = 20.0) -> bool:
    """Return whether a condition holds within some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
