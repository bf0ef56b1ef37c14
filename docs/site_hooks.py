"""Hooks of MkDocs: pages from outside docs/, links resolved, commands documented."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from cyclopts import App
from cyclopts.docs.markdown import generate_markdown_docs
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from d2csr.cli.app import build_app
from d2csr.cli.examples import EXAMPLES

ROOT = Path(__file__).resolve().parent.parent
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
COMMANDS = "<!-- commands: filled in by docs/site_hooks.py -->"

_USAGE = re.compile(r"^#+ d2csr (?P<command>.+)\n\n```console\n.*\n```\n", re.MULTILINE)
_CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<path>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Return the site's files, with the pages that lie in the repository's root."""
    for source, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page's text with its links resolved and the command reference filled in."""
    del config
    if COMMANDS in markdown:
        return markdown.replace(COMMANDS, command_reference())
    return resolve_links(markdown, page=page.file.src_uri, pages=set(files.src_uris))


def resolve_links(markdown: str, *, page: str, pages: set[str]) -> str:
    """Return `markdown` with links to repository files turned into links within the site.

    A page's links are those of the repository's own view. A file that isn't part of the site
    can't be linked to there: the text of such a link stays.

    Args:
        markdown: the text of a page.
        page: where the page lies below docs/, or would lie if it is one of ROOT_PAGES.
        pages: all files of the site, in the same way.
    """
    sources = {name: source for source, name in ROOT_PAGES.items()}
    folder = str(PurePosixPath(sources.get(page, f"docs/{page}")).parent)

    def resolve(link: re.Match[str]) -> str:
        if not link["path"] or ":" in link["path"]:  # an anchor of this page, or a URL
            return link[0]
        file = normpath(f"{folder}/{link['path']}")
        target = ROOT_PAGES.get(file, file.removeprefix("docs/"))
        if target not in pages:
            return link["text"] if (ROOT / file).exists() else link[0]
        path = relpath(target, start=PurePosixPath(page).parent)
        return f"{link['image']}[{link['text']}]({path}{link['anchor'] or ''})"

    parts = _split_code(markdown)
    return "".join(part if is_code else _LINK.sub(resolve, part) for part, is_code in parts)


def command_reference() -> str:
    """Return a section of Markdown for every command: its usage, description and options."""
    names = sorted(set(_command_names(build_app())))
    app = build_app(names)  # named in the call, commands are described by their whole docstrings
    list(_command_names(app))  # imports every command; the list of them lacks summaries otherwise
    text = generate_markdown_docs(app, heading_level=2, no_root_title=True, generate_toc=False)
    # The library's anchors have one hyphen where those of the site have all three.
    text = text.replace("(#d2csr-install-completion)", "(#d2csr---install-completion)")
    return _USAGE.sub(_with_examples, text)


def _with_examples(usage: re.Match[str]) -> str:
    """Return heading and usage of a command with its examples below them."""
    lines = EXAMPLES.get(usage["command"], ())
    examples = "\n".join(("", "Examples:", "", "```sh", *lines, "```", "")) if lines else ""
    return f"{usage[0]}{examples}"


def _command_names(app: App) -> Iterator[str]:
    """Yield the names of all commands, subcommands included."""
    for name in app:
        if not name.startswith("-"):  # --help and --version
            yield name
            yield from _command_names(app[name])


def _split_code(markdown: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a text in order, each with whether it is a block of code."""
    end = 0
    for block in _CODE_BLOCK.finditer(markdown):
        yield markdown[end : block.start()], False
        yield block[0], True
        end = block.end()
    yield markdown[end:], False
