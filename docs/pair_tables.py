"""Writer of the tables about pairs, taken from the newest stored results of each measurement."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PAGES = tuple(ROOT / "docs" / name for name in ("align.md", "simulator.md"))
STORED = ROOT / "benchmarks" / "results"
END = "<!-- align: end -->"
SCALES = (2, 3, 4, 8)


def render(page: str, *, stored: Path = STORED) -> str:
    """Return `page` with every table that it has markers for between the two."""
    for name, (prefix, table) in TABLES.items():
        if begin(name) not in page:
            continue
        before, rest = page.split(begin(name))
        _, after = rest.split(END, 1)
        files = sorted(stored.glob(f"{prefix}-????-??-??.json"))
        lines = ["Not measured yet."]
        if files:
            values = json.loads(files[-1].read_text(encoding="utf-8"))
            lines = [
                *table(values),
                "",
                f"`benchmarks/results/{files[-1].name}`, {values['date']}.",
            ]
        text = "\n".join(lines)
        page = f"{before}{begin(name)}\n\n{text}\n\n{END}{after}"
    return page


def begin(name: str) -> str:
    """Return the marker that a table begins with."""
    return (
        f"<!-- align {name}: made by docs/pair_tables.py from benchmarks/results; do not edit -->"
    )


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _accuracy(values: dict[str, Any]) -> Iterator[str]:
    """Yield verdicts and errors by scale, then the wrong pairs."""
    yield "| pairs | accepted | median | p95 | worst | CPU s, median |"
    yield "| --- | --- | --- | --- | --- | --- |"
    kinds: dict[str, Callable[[dict[str, Any]], bool]] = {
        f"x{scale}{words}": lambda row, scale=scale, nearer=nearer: (
            row["scale"] == scale and (row["planes"] > 1) == nearer
        )
        for nearer, words in ((False, ""), (True, ", nearer planes too"))
        for scale in SCALES
    }
    kinds["all of x2 to x4"] = lambda row: row["scale"] <= 4
    kinds["all of x8"] = lambda row: row["scale"] == 8
    for kind, belongs in kinds.items():
        rows = [row for row in values["good"] if belongs(row)]
        accepted = [row for row in rows if row["accepted"]]
        if not rows:
            continue
        errors = [row["used_rms_px"] for row in accepted] or [float("nan")]
        figures = (np.median(errors), np.percentile(errors, 95), max(errors))
        time = float(np.median([row["cpu_seconds"] for row in rows]))
        cells = [kind, f"{len(accepted)} of {len(rows)}"]
        yield _row([*cells, *(f"{value:.3f}" for value in figures), f"{time:.1f}"])
    wrong = values["wrong"]
    if wrong:
        kinds_of_wrong = ", ".join(sorted({row["kind"] for row in wrong}))
        accepted = sum(row["accepted"] for row in wrong)
        yield ""
        yield f"Of {len(wrong)} wrong pairs ({kinds_of_wrong}) {accepted} were accepted."


def _phone(values: dict[str, Any]) -> Iterator[str]:
    """Yield every accepted pair of a phone's two lenses, and why the others are not."""
    pairs = values["pairs"]
    accepted = [row for row in pairs if row["verdict"] == "accepted"]
    yield f"{len(accepted)} of {len(pairs)} accepted at scale {values['scale']}:"
    yield ""
    names = ("residual_median_px", "residual_p95_px", "grid_error_px", "parallax", "masked")
    yield _row(["pair", *(f"`{name}`" for name in names)])
    yield _row(["---"] * (len(names) + 1))
    for row in accepted:
        yield _row([row["capture"], *(f"{row['scores'][name]:.2f}" for name in names)])
    yield ""
    reasons = {
        "a grid known too badly": "the grid is known",
        "parallax": "(parallax)",
        "too much masked": "would be masked",
        "a tele or wide image out of focus": "out of focus",
    }
    rejected = [row["reason"] for row in pairs if row["verdict"] != "accepted"]
    told = ", ".join(
        f"{sum(words in reason for reason in rejected)} for {name}"
        for name, words in reasons.items()
    )
    yield f"Rejected, a pair for several reasons: {told}."


def _large(values: dict[str, Any]) -> Iterator[str]:
    """Yield time and memory of a large pair."""
    width, height = values["tele_size"]
    yield (
        f"A pair with a tele frame of {width}x{height} ({width * height / 1e6:.0f} megapixels), "
        f"x{values['scale']}, from the command to the report: {values['seconds']:.0f} s, "
        f"{values['peak_bytes'] / 1e9:.2f} GB at the peak."
    )


def _compared(values: dict[str, Any]) -> Iterator[str]:
    """Yield each method's median error by scale, on the same pairs."""
    compared = values["compared"]
    if not compared:
        yield "Not measured yet."
        return
    good = {row["pair"]: row for row in values["good"]}
    methods = {"d2csr align": lambda name: good[name]} | {
        method: lambda name, method=method: compared[name][method]
        for method in next(iter(compared.values()))
    }
    yield _row(["registration", *(f"x{scale}" for scale in SCALES)])
    yield _row(["---"] * (len(SCALES) + 1))
    for method, of in methods.items():
        cells = []
        for scale in SCALES:
            rows = [of(name) for name in compared if name.startswith(f"x{scale}_")]
            errors = [row["rms_px"] for row in rows if "rms_px" in row]
            failed = len(rows) - len(errors)
            told = f"{np.median(errors):.3f}" if errors else "-"
            cells.append(told + (f" ({failed} of {len(rows)} failed)" if failed else ""))
        yield _row([method, *cells])


def _city100(values: dict[str, Any]) -> Iterator[str]:
    """Yield what displacement is left in City100's pairs."""
    summary = values["summary"]
    yield f"| {len(values['again'])} pairs | common | patch median | patch p95 |"
    yield "| --- | --- | --- | --- |"
    told = {
        "published": "as published",
        "again": "registered again",
        "floor": "a perfect pair (the estimator's floor)",
    }
    for state, name in told.items():
        scores = ("common_px", "patch_median_px", "patch_p95_px")
        yield _row([name, *(f"{summary[f'{state}_{score}']:.3f}" for score in scores)])
    yield ""
    yield (
        f"Pair by pair, {summary['median_ratio']:.2f} of the common displacement is left at the "
        f"median, floor included. {len(values['moved'])} pairs moved by a known homography and "
        f"darkened: the movement is recovered to {summary['moved_median_rms_px']:.3f} px RMS at "
        f"the median, {summary['moved_p95_rms_px']:.3f} at the 95th percentile."
    )


def _realism(values: dict[str, Any]) -> Iterator[str]:
    """Yield what pairs of each kind are like, and what the linear baseline learns from them."""
    coherent = ("0.12", "0.14", "0.16")
    titles = ("linear, val dB", f"coherence at {' / '.join(coherent)}", "transfer at Nyquist of LR")
    yield _row(["pairs", *titles, "noise of HR / LR, levels"])
    yield _row(["---"] * 5)
    for name, row in values["rows"].items():
        cells = [f"{name} ({row['number']})", f"{row['linear_on_real_val_db']:.2f}"]
        cells.append(" / ".join(f"{row['coherence'][at]:.2f}" for at in coherent))
        cells.append(f"{row['mtf_at_lr_nyquist']:.2f}")
        cells.append(f"{row['hr_noise_levels']:.2f} / {row['lr_noise_levels']:.2f}")
        yield _row(cells)


def _trained(values: dict[str, Any]) -> Iterator[str]:
    """Yield the PSNR that models of one recipe have, by what they were trained on."""
    yield "| test set | trained on | PSNR dB | difference to the model above, 95% |"
    yield "| --- | --- | --- | --- |"
    for folder, found in values["tests"].items():
        differences = {(row["a"], row["b"]): row for row in found["paired"]}
        before = ""
        for name, psnr_db in found["psnr_db"].items():
            told = ""
            if row := differences.get((before, name)):
                low, high = row["interval95"]
                told = f"{-row['diff_psnr_db']:+.2f} ({-high:+.2f} to {-low:+.2f})"
            images = f"{folder}, {found['images']} images"
            yield _row([images, name, f"{psnr_db:.2f}", told])
            before = name


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "accuracy": ("align_accuracy", _accuracy),
    "compared": ("align_accuracy", _compared),
    "city100": ("align_city100", _city100),
    "phone": ("phone_pairs", _phone),
    "large": ("align_large", _large),
    "registered": ("registered_training", _trained),
    "realism": ("realism", _realism),
    "simulated": ("realism_training", _trained),
}


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(render(each.read_text(encoding="utf-8")), encoding="utf-8")
