"""Links of the pages as the repository shows them: every file and every heading is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:href|src)=\"([^\"]+)\"|^\[[^\]]+\]: (\S+)", re.MULTILINE)


def without_code(text):
    """Return Markdown without blocks and spans of code, in which nothing is a link."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]+`", "`code`", text)


def links_of(page):
    text = without_code(page.read_text(encoding="utf-8"))
    return ["".join(groups) for groups in LINK.findall(text)]


def anchors_of(page):
    """Return the anchors of a page's headings, by the rule of GitHub."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.DOTALL)
    anchors, seen = [], []
    for title in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        earlier = seen.count(anchor)
        seen.append(anchor)
        anchors.append(f"{anchor}-{earlier}" if earlier else anchor)
    return anchors


def problem_with(page, link, *, root=ROOT):
    """Return the problem with a link of a page; None if it leads to a file and a heading."""
    if re.match(r"[a-z]+:", link):
        return None  # another host: not asked during a test
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.is_relative_to(root) or not target.exists():
        return f"{link}: no such file"
    if anchor and anchor not in anchors_of(target):
        return f"{link}: no such heading among {', '.join(anchors_of(target))}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page):
    problems = [problem_with(page, link) for link in links_of(page)]
    assert [problem for problem in problems if problem] == []


def test_pages_are_linked_from_the_readme_or_from_each_other():
    linked = {(page.parent / link.partition("#")[0]).resolve()
              for page in PAGES for link in links_of(page)}  # fmt: skip
    unlinked = [page.name for page in PAGES if page not in linked and page.name != "README.md"]
    assert unlinked == []


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("page.md", None),
        ("page.md#two-words-with-code", None),
        ("#two-words-with-code-1", None),
        ("https://example.org/nowhere.md", None),
        ("missing.md", "no such file"),
        ("page.md#absent", "no such heading"),
        ("../../../outside.md", "no such file"),
    ],
)
def test_a_wrong_link_is_found(tmp_path, link, problem):
    page = tmp_path / "page.md"
    page.write_text("# Two words, with `code`\n\n## Two words, with code\n")
    found = problem_with(page, link, root=tmp_path)
    assert found is None if problem is None else problem in found
