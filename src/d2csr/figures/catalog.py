"""The catalog: every table and figure of the paper, what it shows, and what it is made from."""

import csv
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from d2csr.core.errors import UsageError

# How an item is drawn or written; each is a function of `figures/paper.py`.
Kind = Literal[
    "benchmarks",
    "suite",
    "size",
    "predictions",
    "residuals",
    "weights",
    "comparison",
    "degradation",
]
# The quantity that the crops shown are chosen by: the tile of an image where it is largest.
Rule = Literal["gain", "variance", "difference", "loss"]
_PACKAGE = Path(__file__).resolve().parents[1]
_SUITES = (_PACKAGE / "experiments" / "suites", _PACKAGE.parents[1] / "experiments" / "suites")


@dataclass(frozen=True)
class PaperItem:
    """One table or figure.

    Attributes:
        name: as in the paper.
        caption: what it shows.
        kind: how it is made.
        suite: the suite of `experiments/suites` whose systems it shows.
        systems: the systems of that suite that it shows, in order; none: all.
        rule: of the crops: `gain`, where the first system's SR is nearer to HR than bicubic
            enlargement; `variance` of its predictions; `difference` between the first two
            systems' SR; `loss`, the difference between real and bicubic LR.
    """

    name: str
    caption: str
    kind: Kind
    suite: str | None = None
    systems: tuple[str, ...] = ()
    rule: Rule = "gain"


@dataclass(frozen=True)
class FigureOptions:
    """Options of figures.

    Attributes:
        images: Test images that crops are chosen from: the first, in the order of their names.
        crops: Crops that a figure shows, one an image.
        side: Side of a crop, in HR pixels.
    """

    images: int = 6
    crops: int = 2
    side: int = 96


ITEMS = (
    PaperItem("table1", "Systems on RealSR, DRealSR and D2CRealSR", "benchmarks", "bench_x3"),
    PaperItem("table2", "Width and depth of the tree", "suite", "table2"),
    PaperItem("table3", "Without triplet term; without deep residual", "suite", "table3"),
    PaperItem("table4", "Systems on bicubic pairs: Set5, Set14, B100", "suite", "table4"),
    PaperItem("figure4", "Size against PSNR of six sizes", "size", "figure4"),
    PaperItem("figure5", "Systems side by side, RealSR", "comparison", "bench_x3"),
    PaperItem("figure6", "Systems side by side, D2CRealSR", "comparison", "bench_x3"),
    PaperItem(
        "figure7", "Predictions, with and without triplet term", "predictions", "ablations",
        ("d2c-sr", "without-triplet"), "variance",
    ),
    PaperItem(
        "figure8", "Checkerboard without absolute errors", "predictions", "ablations",
        ("strong-triplet", "without-absolute"), "variance",
    ),
    PaperItem("figure10", "Real against bicubic degradation", "degradation", rule="loss"),
    PaperItem(
        "figure11", "Residuals of the divergence loss", "residuals", "ablations", ("d2c-sr",),
        "variance",
    ),
    PaperItem("figure12", "More systems side by side, RealSR", "comparison", "bench_x3"),
    PaperItem(
        "figure13", "Predictions by weight of the triplet term", "predictions", "ablations",
        ("without-triplet", "d2c-sr", "strong-triplet"), "difference",
    ),
    PaperItem(
        "figure14", "With and without deep residual", "comparison", "ablations",
        ("d2c-sr", "without-deep-residual"), "difference",
    ),
    PaperItem(
        "figure15", "Weights of the predictions", "weights", "ablations", ("d2c-sr",), "variance"
    ),
    PaperItem("figure16", "D2C-SR on D2CRealSR", "comparison", "ablations", ("d2c-sr",)),
    PaperItem(
        "figure17", "More predictions with the triplet term", "predictions", "ablations",
        ("d2c-sr",), "variance",
    ),
)  # fmt: skip


def find_item(name: str) -> PaperItem:
    """Return the table or figure of a name.

    Raises:
        UsageError: there is none; those that exist are listed.
    """
    for item in ITEMS:
        if item.name == name:
            return item
    names = ", ".join(item.name for item in ITEMS)
    raise UsageError(name, "is no table or figure that can be made", f"Choose one of {names}.")


def find_suite(item: PaperItem) -> Path:
    """Return the suite file that an item's systems are trained by.

    Raises:
        UsageError: it isn't installed.
    """
    for folder in _SUITES:
        path = folder / f"{item.suite}.yaml"
        if path.is_file():
            return path
    remedy = "Give --suite with a suite that ran, or models with --name."
    raise UsageError(item.name, f"the suite file {item.suite}.yaml isn't installed", remedy)


class PublishedScore(BaseModel):
    """A score that the paper published, on its data and by its training.

    Attributes:
        table: of the paper.
        data: realsr, drealsr (trained on RealSR), d2crealsr, set5 or b100.
        scale: SR pixels per LR pixel.
        system: its name in our suites.
        psnr_db: on luma.
        ssim: on luma; None where it wasn't published.
    """

    model_config = ConfigDict(frozen=True)

    table: str
    data: str
    scale: int
    system: str
    psnr_db: float
    ssim: float | None


def published_scores(table: str) -> list[PublishedScore]:
    """Return the scores of one of the paper's tables, in its order."""
    text = files("d2csr.figures").joinpath("published.csv").read_text(encoding="utf-8")
    rows = [
        {**row, "ssim": row["ssim"] or None}
        for row in csv.DictReader(text.splitlines())
        if row["table"] == table
    ]
    return TypeAdapter(list[PublishedScore]).validate_python(rows)
