"""The documentation site: it builds without a warning, is complete, and needs no other host."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

import d2csr
from d2csr.cli.app import build_app, complete_words
from d2csr.cli.examples import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
# What a browser fetches by itself, as opposed to what it offers to click on.
FETCHED = dict.fromkeys(("script", "img", "iframe", "embed", "source", "video", "audio"), "src")
FETCHED |= {"link": "href", "object": "data"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the site, built as `make site` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Fetched(HTMLParser):
    """Everything that a browser fetches to show a page, and the page's policy on it."""

    def __init__(self, text):
        super().__init__()
        self.urls, self.policy = [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if url := values.get(FETCHED.get(tag, "")):
            self.urls.append(url)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]


def is_elsewhere(url):
    return re.match(r"([a-z]+:)?//", url) is not None


def code_blocks(page, language):
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_make_site_is_the_strict_build():
    command = ["make", "--dry-run", "--always-make", "--no-print-directory", "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert " .venv/bin/mkdocs build --strict --quiet\n" in done.stdout


def test_every_page_of_docs_and_every_page_of_the_root_is_in_it(site):
    pages = {page.stem for page in site.glob("*.html")} - {"404"}
    written = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages == written | {"index", "changelog", "contributing"}
    assert list(site.rglob("*.py")) == []


def test_no_page_fetches_anything_from_another_host(site):
    for page in site.rglob("*.html"):
        fetched = Fetched(page.read_text(encoding="utf-8"))
        assert len(fetched.urls) > 3, page
        assert [url for url in fetched.urls if is_elsewhere(url)] == [], page
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        urls = re.findall(r"url\(\s*['\"]?([^'\")]+)", text) + re.findall(r"@import\s+(\S+)", text)
        assert [url for url in urls if is_elsewhere(url)] == [], sheet


def test_browsers_are_told_to_refuse_what_scripts_fetch_from_another_host(site):
    for page in site.rglob("*.html"):
        policy = Fetched(page.read_text(encoding="utf-8")).policy
        assert policy == "default-src 'self' 'unsafe-inline' data: blob:", page


def test_every_link_between_pages_leads_to_a_heading(site):
    """MkDocs checks the links that it knows; this checks what it wrote."""
    pages = {page: page.read_text(encoding="utf-8") for page in site.glob("*.html")}
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    for page, text in pages.items():
        if page.stem == "404":  # its links start at the root of wherever it is served
            continue
        for url in re.findall(r'<a[^>]*\bhref="([^"]+)"', text):
            path, _, anchor = url.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not re.match(r"[a-z]+:", url):
                assert target.exists(), (page.name, url)
                assert not anchor or anchor in anchors[target], (page.name, url)


def commands_of(app, *above):
    """Yield every command as the words it is called by, with its arguments and options."""
    defaults = build_app().default_parameter  # no --no-resume beside --resume
    for name in app:
        if name not in {"--help", "-h", "--version"}:
            command, words = app[name], (*above, name)
            has_options = command.default_command is not None  # `d2csr data` alone does nothing
            arguments = (
                command.assemble_argument_collection(default_parameter=defaults)
                if has_options
                else ()
            )
            yield words, {option for each in arguments if each.show for option in each.names}
            yield from commands_of(command, *words)


def test_the_command_reference_has_every_command_and_every_option(site):
    text = (site / "commands.html").read_text(encoding="utf-8")
    sections = dict(re.findall(r'<h\d id="d2csr-([^"]+)">(.*?)(?=<h\d|</article)', text, re.DOTALL))
    commands = dict(commands_of(build_app()))
    assert set(sections) == {"-".join(words) for words in commands}
    assert {"--input", "-i", "--resume"} <= commands["upscale",]
    for words, options in commands.items():
        code = " ".join(re.findall(r"<code>(.*?)</code>", sections["-".join(words)]))
        assert options - set(re.split(r"[, ]+", code)) == set(), words


def test_the_command_reference_has_the_examples_of_every_command(hooks):
    reference = hooks.command_reference()
    for command, lines in EXAMPLES.items():
        section = reference.partition(f" d2csr {command}\n")[2].partition("\n#")[0]
        assert not command or "```sh\n" + "\n".join(lines) + "\n```\n" in section


def test_a_command_is_described_by_its_whole_docstring(hooks):
    reference = hooks.command_reference()
    assert "Exit code: 0" in reference
    listed = re.findall(r"^\* \[`(\w+)`\].*: \S", reference, re.MULTILINE)
    assert {"upscale", "train", "data"} <= set(listed)


def test_the_api_page_lists_what_the_package_exports():
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: d2csr\.(\w+)$", page, re.MULTILINE)
    assert set(d2csr.__all__) - {"__version__"} == set(listed)


def test_every_function_of_the_api_page_is_documented(site):
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in set(d2csr.__all__) - {"__version__"}:
        assert f'id="d2csr.{name}"' in text


@pytest.mark.parametrize(
    ("link", "page", "resolved"),
    [
        ("[a](docs/files.md#what-comes-out)", "index.md", "[a](files.md#what-comes-out)"),
        ("![a](docs/images/a.png)", "index.md", "![a](images/a.png)"),
        ("[a](CHANGELOG.md)", "index.md", "[a](changelog.md)"),
        ("[a](../README.md#results)", "align.md", "[a](index.md#results)"),
        ("[a](files.md)", "align.md", "[a](files.md)"),
        ("[a](#results)", "index.md", "[a](#results)"),
        ("[a](https://example.org/a.md)", "index.md", "[a](https://example.org/a.md)"),
        ("[`setup`](../pyproject.toml)", "align.md", "`setup`"),  # not on the site
        ("[a](missing.md)", "align.md", "[a](missing.md)"),  # MkDocs reports it
        ("```\n[a](../README.md)\n```", "align.md", "```\n[a](../README.md)\n```"),
    ],
)
def test_a_link_of_the_repository_is_resolved_within_the_site(hooks, link, page, resolved):
    pages = {"index.md", "changelog.md", "align.md", "files.md", "images/a.png"}
    assert hooks.resolve_links(link, page=page, pages=pages) == resolved


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_shown_is_one_that_the_program_takes(page):
    for line in "".join(code_blocks(page, "sh")).replace("\\\n", " ").splitlines():
        words = shlex.split(line.partition(" > ")[0], comments=True)  # output to a file left out
        if words and Path(words[0]).name == "d2csr":
            build_app().parse_args(
                complete_words(words[1:]), exit_on_error=False, print_error=False
            )


def test_every_extra_named_exists():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(pyproject["project"]["optional-dependencies"])
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = re.findall(r"'(?:d2csr|\.)\[([a-z,]+)\]'", text)
    assert {extra for each in named for extra in each.split(",")} <= extras


def test_the_python_of_get_started_runs_as_it_stands(tmp_path, monkeypatch):
    (code,) = code_blocks(ROOT / "docs/get-started.md", "python")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "enlarged.png").stat().st_size > 100_000


def test_the_scores_shown_are_those_of_the_stored_results():
    text = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
    (name,) = re.findall(r"`benchmarks/results/(\S+\.json)`", text)
    stored = json.loads((ROOT / "benchmarks/results" / name).read_text(encoding="utf-8"))
    rows = {row["model"]: row for row in stored["results"] if row["protocol"] == "y"}
    for model, row in rows.items():
        low, high = row["interval95"]["psnr_db"]
        mean, shifted = row["mean"], row["mean_psnr_registered_db"]
        (line,) = [each for each in text.splitlines() if each.startswith(f"{model} ")]
        scores = (f"{mean['psnr_db']:.2f}", f"{low:.2f}-{high:.2f}", f"{mean['ssim']:.4f}")
        assert line.split()[1:4] == list(scores)
        assert line.endswith(f"({shifted:.2f})")
