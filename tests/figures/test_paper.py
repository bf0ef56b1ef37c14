"""Every table and figure of the paper is made by one command, from a suite or from models."""

import json

import pytest

from d2csr.cli.app import main
from d2csr.core.errors import UsageError
from d2csr.core.results import read_results
from d2csr.evaluation.evaluate import evaluate
from d2csr.figures import catalog
from d2csr.figures.catalog import ITEMS, find_item, published_scores
from d2csr.suites.config import read_suite
from d2csr.suites.tables import suite_rows
from tests.suites.conftest import write_suite

SMALL = ["--images", "1", "--crops", "1", "--side", "32"]


def paper(*words):
    return main(["paper", *map(str, words)])


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)
def test_every_item_is_made_from_a_suite_and_pairs(item, material, tmp_path):
    pytest.importorskip("matplotlib")
    words = [item.name, "-o", tmp_path, "--data", material.data, "--suite", material.suite]
    assert paper(*words, *SMALL) == 0
    made = {path.suffix for path in tmp_path.iterdir()}
    if item.name.startswith("table"):
        assert made == {".md", ".json"}
        text = (tmp_path / f"{item.name}.md").read_text()
        assert all(name in text for name in read_suite(material.suite).systems)
    else:
        assert (tmp_path / f"{item.name}.png").read_bytes().startswith(b"\x89PNG")
        assert ".json" in made


def test_ours_are_the_scores_of_evaluate_and_theirs_have_their_own_column(material, tmp_path):
    words = ["-n", f"d2c-sr={material.bundle}", "--data", material.data, "-o", tmp_path]
    assert paper("table1", *words) == 0
    expected = evaluate([str(material.bundle)], material.data / "RealSR").results[0]
    stored = read_results(tmp_path / "table1-RealSR-x2.json").results[0]
    assert stored.mean == expected.mean
    lines = (tmp_path / "table1.md").read_text().splitlines()
    (header,) = [line for line in lines if line.startswith("| system")]
    assert header == "| system | PSNR dB (95%) | SSIM | published PSNR / SSIM |"
    rows = {
        line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")
    }
    low, high = expected.interval95.psnr_db
    ours = f"{expected.mean.psnr_db:.2f} ({low:.2f} to {high:.2f}) | {expected.mean.ssim:.4f}"
    assert rows["d2c-sr"] == f"| d2c-sr | {ours} | 34.40 / 0.926 |"
    assert rows["rcan"] == "| rcan |  |  | 33.83 / 0.923 |"


def test_pairs_that_the_paper_did_not_use_are_labelled_and_have_no_published_scores(
    material, tmp_path
):
    data = material.data / "RealSR" / "test"
    assert paper("table1", "-n", material.bundle, "--data", data, "-o", tmp_path) == 0
    text = (tmp_path / "table1.md").read_text()
    assert "**test, not the paper's data, x2**" in text
    assert "published PSNR / SSIM" not in text


def test_the_table_of_a_suite_holds_its_rows(material, tmp_path):
    assert paper("table3", "--suite", material.suite, "-o", tmp_path) == 0
    rows = json.loads((tmp_path / "table3.json").read_text())
    assert [row["psnr_db"] for row in rows] == [row.psnr_db for row in suite_rows(material.suite)]


def test_without_models_the_suite_is_trained(tmp_path, monkeypatch):
    monkeypatch.setenv("D2CSR_CACHE", str(tmp_path / "cache"))
    write_suite(tmp_path, seeds=[1]).rename(tmp_path / "table2.yaml")
    monkeypatch.setattr(catalog, "_SUITES", (tmp_path,))
    assert paper("table2", "-o", tmp_path / "paper") == 0
    assert "| d2c |" in (tmp_path / "paper" / "table2.md").read_text()
    assert (tmp_path / "paper/suite/trials/made/d2c/seed-1/run/bundle/bundle.json").is_file()


def test_published_scores_are_those_of_the_paper():
    """Numbers typed from the paper's tables by hand: corners and gaps."""
    scores = {
        (table, row.data, row.scale, row.system): (row.psnr_db, row.ssim)
        for table in ("table1", "table2", "table3", "table4")
        for row in published_scores(table)
    }
    assert len(scores) == 172
    assert scores["table1", "realsr", 2, "bicubic"] == (31.67, 0.887)
    assert scores["table1", "drealsr", 4, "lpkpn"] == (30.75, None)
    assert scores["table1", "d2crealsr", 8, "d2c-sr"] == (30.55, 0.871)
    assert ("table1", "realsr", 2, "srflow") not in scores
    assert scores["table2", "realsr", 4, "depth-4"] == (29.64, None)
    assert scores["table3", "realsr", 3, "without-deep-residual"] == (31.28, 0.870)
    assert scores["table4", "b100", 8, "d2c-sr"] == (24.98, 0.6140)


def test_errors_list_what_there_is(material, tmp_path):
    with pytest.raises(UsageError, match=r"Choose one of table1, .*figure17"):
        find_item("figure9")
    assert paper("table3", "-n", material.bundle, "-o", tmp_path) == 2
    assert paper("figure7", "--side", "0", "-o", tmp_path) == 2
    assert paper("figure7") == 2


def test_without_a_name_all_items_are_listed(capfd):
    assert paper() == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [item.name for item in ITEMS]
