"""The results table of README, written from the stored results of `benchmarks/real_pairs.py`."""

from collections.abc import Iterator
from pathlib import Path

from d2csr.core.bundle import read_bundle
from d2csr.core.results import Results, SystemResult, read_results
from d2csr.engine.model import find_bundle

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "README.md"
STORED = ROOT / "benchmarks" / "results"
BEGIN = "<!-- results: made by `make docs` from benchmarks/results; do not edit -->"
END = "<!-- results: end -->"
PROTOCOL = "y"


def render(page: str, *, stored: Path = STORED) -> str:
    """Return `page` with the results table between its two markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    lines = "\n".join(_lines(stored))
    return f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}"


def _lines(stored: Path) -> Iterator[str]:
    yield "| pairs | system | parameters | PSNR dB (95%) | SSIM | after registration, dB |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for path in sorted(stored.glob("real_pairs-*.json"), reverse=True):
        name = path.stem.removeprefix("real_pairs-")
        yield from _rows(read_results(path), name)


def _rows(results: Results, model: str) -> Iterator[str]:
    """Yield the rows of one set, lowest PSNR first."""
    chosen = [row for row in results.results if row.protocol == PROTOCOL]
    for row in sorted(chosen, key=lambda row: row.mean.psnr_db):
        yield f"| {' | '.join(_cells(results, row, model=model))} |"


def _cells(results: Results, row: SystemResult, *, model: str) -> tuple[str, ...]:
    low, high = row.interval95.psnr_db
    name = f"**{row.model}**" if row.model == model else row.model
    return (
        results.data.removeprefix("$D2CSR_DATA/"),
        name,
        f"{read_bundle(find_bundle(model)).card.parameters:,}" if row.model == model else "",
        f"{row.mean.psnr_db:.2f} ({low:.2f} to {high:.2f})",
        f"{row.mean.ssim:.4f}",
        f"{row.mean_psnr_registered_db:.2f}",
    )


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
