"""HTML report of an alignment run: one self-contained file with every pair and its verdict."""

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
# LR enlarged (or the wide photograph), HR (or the tele one), masked areas on transparency
PREVIEWS = {"wide": "a.jpg", "tele": "b.jpg", "mask": "m.png"}


def write_report(
    results: Sequence[PairResult],
    unpaired: Sequence[tuple[Path, str]],
    *,
    work: Path,
    path: Path,
    scale: int,
) -> None:
    """Write the report on all pairs, accepted, rejected and failed, and on unpaired photographs.

    Args:
        results: of every pair.
        unpaired: photographs without a partner, and the reasons.
        work: folder with the preview images.
        path: of the HTML file.
        scale: HR pixels per LR pixel.
    """
    counts = Counter(result.verdict.status for result in results)
    data = {
        "scale": scale,
        "pairs": [_describe_pair(result, work, scale=scale) for result in results],
        "unpaired": [[str(photo), reason] for photo, reason in unpaired],
        "meanings": dict(MEANINGS),
    }
    summary = ", ".join(f"{counts[name]} {name}" for name in ("accepted", "rejected", "failed"))
    page = files("d2csr.align").joinpath("report.html").read_text(encoding="utf-8")
    page = page.replace("{{title}}", html.escape(f"Aligned pairs, scale {scale}: {summary}"))
    page = page.replace("{{data}}", _script_json(data))
    write_atomically(path, page.encode())


def _describe_pair(result: PairResult, work: Path, *, scale: int) -> dict[str, Any]:
    """Return the JSON values of a pair that the page uses."""
    is_dense = result.registration.transform.get("field") is not None
    return {
        "name": result.name,
        "photos": result.photos.name,
        "status": result.verdict.status,
        "cause": result.verdict.cause,
        "reason": result.verdict.reason,
        "lr_size": result.images.lr_size,
        "hr_size": result.images.hr_size,
        "scores": result.registration.scores,
        "limits": {
            name: {
                "bound": limit.bound_at(scale, is_dense=is_dense),
                "is_minimum": limit.is_minimum,
            }
            for name, limit in LIMITS.items()
            if limit.applies_to(is_dense=is_dense)
        },
        "arrows": result.registration.arrows,
        "notes": result.notes,
        "images": {kind: _embed(preview_path(work, result.name, kind=kind)) for kind in PREVIEWS},
    }


def preview_path(work: Path, name: str, *, kind: str) -> Path:
    """Return the path of a preview image of a pair; its kind is a key of `PREVIEWS`."""
    return work / f"{name}_{PREVIEWS[kind]}"


def _embed(path: Path) -> str:
    """Return an image as a data URL; empty if there is no image."""
    if not path.is_file():
        return ""
    kind = {".jpg": "jpeg", ".png": "png"}[path.suffix]
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _script_json(data: dict[str, Any]) -> str:
    """Return JSON that can't end the script element around it."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
