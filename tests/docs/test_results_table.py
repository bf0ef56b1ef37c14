"""The table in README is that of the stored results."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_readme_table_is_made_from_the_stored_results(load_script):
    module = load_script("results")
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert module.render(page) == page
    assert "city100-nikon-x3" in page
