"""The table in README is that of the stored results."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_readme_table_is_made_from_the_stored_results():
    spec = importlib.util.spec_from_file_location("results", ROOT / "docs" / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert module.render(page) == page
    assert "city100-nikon-x3" in page
