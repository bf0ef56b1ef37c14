"""The tables in `speed.md`, written from the newest stored results of each measurement."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "speed.md"
STORED = ROOT / "benchmarks" / "results"
END = "<!-- speed: end -->"


def render(page: str, *, stored: Path = STORED) -> str:
    """Return `page` with every table between its two markers."""
    tables = {
        name: _newest(stored, prefix, table=table) for name, (prefix, table) in TABLES.items()
    }
    tables["start"] = _starts(stored)
    for name, table in tables.items():
        before, rest = page.split(begin(name))
        _, after = rest.split(END, 1)
        lines = "\n".join(table)
        page = f"{before}{begin(name)}\n\n{lines}\n\n{END}{after}"
    return page


def begin(name: str) -> str:
    """Return the marker before a table."""
    return f"<!-- speed {name}: made by `make docs` from benchmarks/results; do not edit -->"


def _newest(
    stored: Path, prefix: str, *, table: Callable[[dict[str, Any]], Iterator[str]]
) -> Iterator[str]:
    """Yield the table of the newest file, and the machine and versions of its results."""
    files = sorted(stored.glob(f"{prefix}-????-??-??.json"))
    if not files:
        yield "Not measured yet."
        return
    values = json.loads(files[-1].read_text(encoding="utf-8"))
    yield from table(values)
    machine = values["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    where = f"{machine['processor']}, {machine['threads']} threads, {values['date']}; {versions}"
    yield from ("", f"`benchmarks/results/{files[-1].name}`: {where}.")


def _ceilings(values: dict[str, Any]) -> Iterator[str]:
    """Yield the throughput of the libraries, a row per operation and precision."""
    yield "| operation | precision | best, GFLOP/s | others |"
    yield "| --- | --- | --- | --- |"
    for best in (row for row in values["ceilings"] if row["best"]):
        keys = ("operation", "side", "channels", "precision")
        others = [
            f"{row['library']} {row['gflops_per_s']:.0f}"
            for row in sorted(values["ceilings"], key=lambda row: -row["gflops_per_s"])
            if not row["best"] and all(row[key] == best[key] for key in keys)
        ]
        first = f"**{best['library']} {best['gflops_per_s']:.0f}**"
        cells = (_operation(best), best["precision"], first, ", ".join(others))
        yield f"| {' | '.join(cells)} |"


def _models(values: dict[str, Any]) -> Iterator[str]:
    """Yield the rows of the models, then the targets."""
    width, height = values["lr_size"]
    yield f"LR {width}x{height}, {values['rounds']} rounds, all backends alternating."
    yield ""
    yield "| model | backend | seconds | over reference | over expanded | ceiling | memory | PSNR |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for model in values["models"]:
        for row in model["backends"]:
            yield f"| {' | '.join(_model_cells(model['name'], row))} |"
    yield from _targets(values["targets"])


def _targets(targets: list[dict[str, Any]]) -> Iterator[str]:
    for target in targets:
        low, high = target["interval95"]
        state = "met" if target["met"] else "**missed**"
        sign = "at most" if target["most"] else "at least"
        value = f"{target['found']:.4g} ({low:.4g} to {high:.4g})"
        yield f"\n- {target['what']}, {sign} {target['wanted']:g}: {value}, {state}"


def _model_cells(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    form = f", {row['form']} tails" if row["backend"] == "reference" else ""
    share, memory, change = (
        row[key] for key in ("share_of_ceiling", "peak_memory_bytes", "psnr_change_db")
    )
    sign = "about " if row["psnr_change_by"] == "estimate" else ""
    return (
        name,
        f"{row['backend']} {row['precision']}{form}",
        f"{row['median_s']:.3f}",
        _ratio(row["speedup_over_reference"], row["speedup_interval95"]),
        _ratio(row["speedup_over_expanded"], row["speedup_over_expanded_interval95"]),
        "" if share is None else f"{share:.0%}",
        "" if memory is None else f"{memory / 2**20:.0f} MiB",
        "" if change is None else f"{sign}{change:+.4f} dB",
    )


def _peers(values: dict[str, Any]) -> Iterator[str]:
    """Yield the times of our model and of the peers."""
    plain, model = values["plain"], values["model"]
    yield (
        f"Ours is {model['name']} ({model['parameters']:,} parameters). The plain network has "
        f"{plain['parameters']:,} ({plain['blocks']} residual blocks of {plain['width']} channels, "
        f"{plain['gflop_per_lr_mp']:.0f} GFLOP per LR megapixel)."
    )
    yield ""
    yield from _peer_rows(values["peers"])


def _peer_rows(peers: list[dict[str, Any]]) -> Iterator[str]:
    yield "| network and engine | seconds | times ours (95%) |"
    yield "| --- | --- | --- |"
    for row in peers:
        ratio = _ratio(row["times_ours"], row["times_ours_interval95"])
        yield f"| {row['name']} | {row['median_s']:.3f} | {ratio} |"


def _networks(values: dict[str, Any]) -> Iterator[str]:
    """Yield the times of our model and of networks that other programs ship, then the targets."""
    model, (width, height) = values["model"], values["lr_size"]
    sizes = ", ".join(f"{name} {count:,}" for name, count in values["networks"].items())
    yield (
        f"LR {width}x{height}, {values['rounds']} rounds. Parameters: {model['name']} "
        f"{model['parameters']:,}, {sizes}."
    )
    yield ""
    yield from _peer_rows(values["peers"])
    yield from _targets(values["targets"])


def _accuracy(values: dict[str, Any]) -> Iterator[str]:
    """Yield the scores of the plain network, of our model and of bicubic enlargement."""
    training = values["training"]
    yield (
        f"The plain network after {training['best_step']:,} steps of {training['batch']} crops of "
        f"{training['patch_px']} LR pixels, on the model's own train scenes."
    )
    yield ""
    yield "| system | PSNR dB | system above minus this one (95%) |"
    yield "| --- | --- | --- |"
    differences = {frozenset((row["a"], row["b"])): row for row in values["paired"]}
    above = None
    for name in sorted(values["psnr_db"], key=lambda name: -values["psnr_db"][name]):
        row = differences.get(frozenset((above, name)))
        cell = "" if row is None else _signed(row, first=above)
        yield f"| {name} | {values['psnr_db'][name]:.2f} | {cell} |"
        above = name


def _signed(row: dict[str, Any], *, first: str | None) -> str:
    """Return a paired difference as that of `first` over the other."""
    sign = 1 if row["a"] == first else -1
    low, high = sorted(sign * each for each in row["interval95"])
    return f"{sign * row['diff_psnr_db']:+.2f} ({low:+.2f} to {high:+.2f})"


def _memory(values: dict[str, Any]) -> Iterator[str]:
    """Yield the peak memory of the paper's network on one LR image."""
    yield f"Preset `paper` x4, {values['lr_megapixels']:g} LR megapixels."
    yield ""
    yield "| backend | peak above idle | share of reference | target | PSNR against reference |"
    yield "| --- | --- | --- | --- | --- |"
    for row in values["ways"]:
        cells = [f"{row['backend']} {row['precision']}", f"{row['peak_bytes'] / 2**20:.0f} MiB"]
        if "met" in row:
            state = "met" if row["met"] else "**missed**"
            target = f"at most {row['wanted_at_most']:.3f}, {state}"
            difference = f"{row['psnr_between_db']:.1f} dB, "
            difference += f"largest difference {row['largest_relative_difference']:.1e}"
            cells += [f"{row['ratio_to_reference']:.3f}", target, difference]
        else:
            cells += ["1", "", ""]
        yield f"| {' | '.join(cells)} |"


def _photo(values: dict[str, Any]) -> Iterator[str]:
    """Yield the peak memory of upscaling a large photo."""
    width, height = values["sr_size"]
    yield (
        f"A photo of {values['lr_megapixels']:g} megapixels by {values['model']} into a TIFF of "
        f"{width}x{height}; the results differ by {values['largest_difference_levels']:g} gray "
        "levels at most."
    )
    yield ""
    yield "| `--memory` | peak of the process | within the limit | seconds |"
    yield "| --- | --- | --- | --- |"
    for run in values["runs"]:
        limit, peak = (f"{run[key] / 2**30:.2f} GiB" for key in ("limit_bytes", "peak_bytes"))
        is_met = "yes" if run["met"] else "**no**"
        yield f"| {limit} | {peak} | {is_met} | {run['seconds']:.0f} |"


def _starts(stored: Path) -> Iterator[str]:
    """Yield a row per model that was timed from the start of the process to the file on disk."""
    files = sorted(stored.glob("cold_start-*-????-??-??.json"))
    if not files:
        yield "Not measured yet."
        return
    newest = {(row := json.loads(file.read_text(encoding="utf-8")))["model"]: row for file in files}
    parts = list(next(iter(newest.values()))["shares"])
    yield f"| model | first run, s | later, s | without computing, s | {' | '.join(parts)} |"
    yield f"| --- | --- | --- | --- |{' --- |' * len(parts)}"
    for name, row in newest.items():
        seconds = (row["first_run_s"]["total"], row["later_runs_median_s"]["total"])
        cells = [name, *(f"{each:.2f}" for each in (*seconds, row["all_but_compute_s"]))]
        cells += [f"{row['shares'][part]:.0%}" for part in parts]
        yield f"| {' | '.join(cells)} |"


def _ratio(value: float | None, interval: list[float] | None) -> str:
    if value is None or interval is None:
        return ""
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def _operation(row: dict[str, Any]) -> str:
    if row["operation"] == "matmul":
        return f"product of {row['side']}x{row['side']} matrices"
    return f"3x3 convolution {row['channels']}->{row['channels']}, {row['side']}x{row['side']} px"


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "ceilings": ("upscale_speed-paper", _ceilings),
    "paper": ("upscale_speed-paper", _models),
    "shipped": ("upscale_speed-shipped", _models),
    "peers": ("upscale_speed-peers", _peers),
    "networks": ("upscale_speed-networks", _networks),
    "plain": ("plain_peer", _accuracy),
    "memory": ("memory-paper", _memory),
    "photo": ("memory-photo", _photo),
}


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
