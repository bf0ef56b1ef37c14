"""Tables about pairs, written from the newest stored results of each measurement."""

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

OLD_KEYS = {"tests.*.pictures": "images"}  # of stored results; today's name of the last key


def render(page: str, *, stored: Path = STORED) -> str:
    """Return `page` with a table between each pair of markers that it has."""
    for name, (prefix, table) in TABLES.items():
        if begin(name) not in page:
            continue
        before, rest = page.split(begin(name))
        _, after = rest.split(END, 1)
        files = sorted(stored.glob(f"{prefix}-????-??-??.json"))
        lines = ["Not measured yet."]
        if files:
            values = _read(files[-1])
            lines = [
                *table(values),
                "",
                f"`benchmarks/results/{files[-1].name}`, {values['date']}.",
            ]
        text = "\n".join(lines)
        page = f"{before}{begin(name)}\n\n{text}\n\n{END}{after}"
    return page


def begin(name: str) -> str:
    """Return the marker before a table."""
    return (
        f"<!-- align {name}: made by docs/pair_tables.py from benchmarks/results; do not edit -->"
    )


def _read(path: Path) -> dict[str, Any]:
    """Return the values of stored results, their old keys renamed."""
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for old, new in OLD_KEYS.items():
        group, _, key = old.split(".")
        for row in values.get(group, {}).values():
            if key in row:
                row[new] = row.pop(key)
    return values


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _accuracy(values: dict[str, Any]) -> Iterator[str]:
    """Yield accepted pairs and their errors by scale, then the wrong pairs."""
    yield "| pairs | accepted | median | p95 | worst | CPU s, median |"
    yield "| --- | --- | --- | --- | --- | --- |"
    groups: dict[str, Callable[[dict[str, Any]], bool]] = {
        f"x{scale}{suffix}": lambda row, scale=scale, has_nearer=has_nearer: (
            row["scale"] == scale and (row["planes"] > 1) == has_nearer
        )
        for has_nearer, suffix in ((False, ""), (True, ", nearer planes too"))
        for scale in SCALES
    }
    groups["all of x2 to x4"] = lambda row: row["scale"] <= 4
    groups["all of x8"] = lambda row: row["scale"] == 8
    for name, is_member in groups.items():
        rows = [row for row in values["good"] if is_member(row)]
        accepted = [row for row in rows if row["accepted"]]
        if not rows:
            continue
        errors = [row["used_rms_px"] for row in accepted] or [float("nan")]
        summary = (np.median(errors), np.percentile(errors, 95), max(errors))
        time = float(np.median([row["cpu_seconds"] for row in rows]))
        cells = [name, f"{len(accepted)} of {len(rows)}"]
        yield _row([*cells, *(f"{value:.3f}" for value in summary), f"{time:.1f}"])
    wrong = values["wrong"]
    if wrong:
        kinds = ", ".join(sorted({row["kind"] for row in wrong}))
        accepted = sum(row["accepted"] for row in wrong)
        yield ""
        yield f"Of {len(wrong)} wrong pairs ({kinds}) {accepted} were accepted."


def _phone(values: dict[str, Any]) -> Iterator[str]:
    """Yield the trusted texture of accepted pairs of a phone's two lenses, and other reasons."""
    pairs = values["pairs"]
    accepted = [row["scores"] for row in pairs if row["verdict"] == "accepted"]
    shares = sorted(scores["trusted_share"] for scores in accepted)
    yield (
        f"{len(accepted)} of {len(pairs)} accepted at scale {values['scale']}, with "
        f"{np.median(shares):.0%} of their texture trusted at the median "
        f"({shares[0]:.0%} to {shares[-1]:.0%}):"
    )
    yield ""
    names = ("trusted_share", "trusted_mp", "grid_error_px", "residual_median_px", "parallax")
    yield _row(["pair", *(f"`{name}`" for name in names)])
    yield _row(["---"] * (len(names) + 1))
    for row in pairs:
        if row["verdict"] == "accepted":
            yield _row([row["capture"], *(f"{row['scores'][name]:.2f}" for name in names)])
    for row in pairs:
        if row["verdict"] != "accepted":
            yield ""
            yield f"Pair {row['capture']} was rejected: {row['reason']}."


def _two_lenses(values: dict[str, Any]) -> Iterator[str]:
    """Yield the errors of trusted pixels of simulated pairs of two lenses."""
    summary, pairs = values["summary"], values["pairs"]
    measures = {
        "pairs accepted": f"{summary['accepted']} of {len(pairs)}",
        "error of trusted pixels, median": f"{summary['median_px']:.3f} HR px",
        "95th percentile": f"{summary['p95_px']:.3f} HR px",
        "trusted pixels off by more than 1 HR px": f"{summary['above_1px']:.2%}",
        "trusted pixels that the tele frame doesn't show": f"{summary['hidden']:.2%}",
        "visible texture that is trusted": f"{summary['trusted_of_visible']:.0%}",
        "wrong pairs accepted": f"{summary['wrong_accepted']} of {len(values['wrong'])}",
    }
    yield _row(["measure", "result"])
    yield _row(["---"] * 2)
    for name, value in measures.items():
        yield _row([name, value])


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
    for method, find_row in methods.items():
        cells = []
        for scale in SCALES:
            rows = [find_row(name) for name in compared if name.startswith(f"x{scale}_")]
            errors = [row["rms_px"] for row in rows if "rms_px" in row]
            failed = len(rows) - len(errors)
            cell = f"{np.median(errors):.3f}" if errors else "-"
            cells.append(cell + (f" ({failed} of {len(rows)} failed)" if failed else ""))
        yield _row([method, *cells])


def _city100(values: dict[str, Any]) -> Iterator[str]:
    """Yield the displacement that is left in City100's pairs."""
    summary = values["summary"]
    yield f"| {len(values['again'])} pairs | common | patch median | patch p95 |"
    yield "| --- | --- | --- | --- |"
    states = {
        "published": "as published",
        "again": "registered again",
        "floor": "a perfect pair (the estimator's floor)",
    }
    for state, name in states.items():
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
    """Yield properties of each kind of pairs, and the PSNR of a linear filter fitted on them."""
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
    """Yield the PSNR of models of one recipe, by the pairs that they were trained on."""
    yield "| test set | trained on | PSNR dB | difference to the model above, 95% |"
    yield "| --- | --- | --- | --- |"
    for folder, scores in values["tests"].items():
        differences = {(row["a"], row["b"]): row for row in scores["paired"]}
        before = ""
        for name, psnr_db in scores["psnr_db"].items():
            difference = ""
            if row := differences.get((before, name)):
                low, high = row["interval95"]
                difference = f"{-row['diff_psnr_db']:+.2f} ({-high:+.2f} to {-low:+.2f})"
            images = f"{folder}, {scores['images']} images"
            yield _row([images, name, f"{psnr_db:.2f}", difference])
            before = name


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "accuracy": ("align_accuracy", _accuracy),
    "compared": ("align_accuracy", _compared),
    "city100": ("align_city100", _city100),
    "two lenses": ("align_two_lenses", _two_lenses),
    "phone": ("phone_pairs", _phone),
    "large": ("align_large", _large),
    "registered": ("registered_training", _trained),
    "realism": ("realism", _realism),
    "simulated": ("realism_training", _trained),
}


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(render(each.read_text(encoding="utf-8")), encoding="utf-8")
