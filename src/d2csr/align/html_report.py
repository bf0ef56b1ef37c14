"""The report: one HTML file that needs nothing else, with every pair and why it is in or out."""

import base64
import html
import json
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from d2csr.align.outcome import PairResult
from d2csr.align.registration.quality import LIMITS, MEANINGS
from d2csr.core.files import write_atomically

REPORT_NAME = "report.html"
# LR enlarged (or wide), HR (or tele), and masked places coloured on transparent ground
PREVIEWS = {"a": "jpg", "b": "jpg", "m": "png"}


def write_report(
    outcomes: Sequence[PairResult],
    alone: Sequence[tuple[Path, str]],
    *,
    work: Path,
    path: Path,
    scale: int,
) -> None:
    """Write the report of all pairs, accepted, rejected and failed, and of unpaired photographs.

    Args:
        outcomes: of every pair.
        alone: photographs without a partner, and why.
        work: folder with the pairs' small images.
        path: of the HTML file.
        scale: HR pixels to an LR pixel.
    """
    counts = Counter(outcome.verdict for outcome in outcomes)
    data = {
        "scale": scale,
        "pairs": [_row(outcome, work) for outcome in outcomes],
        "alone": [[str(photo), why] for photo, why in alone],
        "limits": {
            name: {"bound": limit.bound(scale), "least": limit.least}
            for name, limit in LIMITS.items()
        },
        "meanings": dict(MEANINGS),
    }
    told = ", ".join(f"{counts[name]} {name}" for name in ("accepted", "rejected", "failed"))
    page = files("d2csr.align").joinpath("report.html").read_text(encoding="utf-8")
    page = page.replace("{{title}}", html.escape(f"Aligned pairs, scale {scale}: {told}"))
    page = page.replace("{{data}}", _script_json(data))
    write_atomically(path, page.encode())


def _row(outcome: PairResult, work: Path) -> dict[str, Any]:
    kept = (
        "name", "capture", "scene", "verdict", "cause", "reason", "camera", "lr_size", "hr_size",
        "scores", "arrows", "notes",
    )  # fmt: skip
    row = {name: getattr(outcome, name) for name in kept}
    row["ratio"] = outcome.transform.get("focal_ratio")
    return row | {kind: _embedded(preview_path(work, outcome.name, kind=kind)) for kind in PREVIEWS}


def preview_path(work: Path, name: str, *, kind: str) -> Path:
    """Return where a pair's small image of a kind (of `PREVIEWS`) lies."""
    return work / f"{name}_{kind}.{PREVIEWS[kind]}"


def _embedded(path: Path) -> str:
    """Return an image as a data address; empty where there is none."""
    if not path.is_file():
        return ""
    kind = {".jpg": "jpeg", ".png": "png"}[path.suffix]
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _script_json(data: dict[str, Any]) -> str:
    """Return JSON that can't end the script element it stands in."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
