"""How fast upscaling is: over `reference`, of the machine's ceilings, and beside peers.

Cases: `paper` (x4, random weights: time doesn't depend on them), `shipped` (all shipped models) and
`peers` (a plain network with the parameters of a shipped model, random ones, on ncnn, ONNX Runtime
and compiled PyTorch; `plain_peer.py` trains it). All runs of a case take turns.
Writes a dated JSON file a case and says which targets are met: a target is, if the 95% interval
reaches it. About 8 minutes on 2 idle cores; `--cases` measures a part.

    D2CSR_DATA=DATA python benchmarks/upscale_speed.py [--cases paper] [--size 512] [--rounds 9]
"""

import argparse
import json
import os
import statistics
import sys
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from peers.plain import PEER_MODEL, PlainNet, parameter_count, peer_bundle, peer_sizes

from d2csr.cli.benchmark import subjects
from d2csr.core.bundle import Bundle
from d2csr.core.files import write_atomically
from d2csr.engine.model import shipped_bundles
from d2csr.speed.charts import print_speed
from d2csr.speed.measure import (
    BenchmarkOptions,
    Ratio,
    machine,
    measure,
    measure_ceilings,
    ratio_of_medians,
    run_alternately,
)
from d2csr.speed.speed_results import BackendResult, CeilingResult, ModelResult, SpeedResults
from d2csr.speed.worker import Worker, cores

RESULTS = Path(__file__).parent / "results"
CASES = ("paper", "shipped", "peers")
PEERS = ("ncnn fp32", "ncnn bf16", "onnxruntime fp32", "torch compile fp32", "torch compile bf16")
# One run of the paper's network by `reference` takes some 45 s: three must do for the median.
REFERENCE_ROUNDS = {"paper": 3, "shipped": 5}
SHIPPED_CHANNELS, PAPER_CHANNELS = 16, 64
DATA = {"city100-nikon-x3": "city100/nikon_d5500_x3", "city100-iphone-x2": "city100/iphone_x_x2"}


class Target(NamedTuple):
    """A figure to reach, and what was found.

    Attributes:
        what: in words.
        wanted: at least this; at most, where `most` is set.
        found: the measured value.
        interval95: of it; both ends the value where it has none.
        most: the value is to stay below.
    """

    what: str
    wanted: float
    found: float
    interval95: tuple[float, float]
    most: bool = False

    @property
    def met(self) -> bool:
        """Return whether the interval reaches what is wanted."""
        low, high = self.interval95
        return low <= self.wanted if self.most else high >= self.wanted

    def as_text(self) -> str:
        """Return one line."""
        sign, (low, high) = "<=" if self.most else ">=", self.interval95
        state = "met" if self.met else "MISSED"
        found = f"{self.found:.4g} ({low:.4g} to {high:.4g})"
        return f"{state:6} {self.what}: {found}, wanted {sign} {self.wanted:g}"


def main() -> None:
    """Measure the cases and write a file for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--size", type=int, default=512, help="side of the LR image, in pixels")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON files")
    asked = parser.parse_args()
    wish = BenchmarkOptions(
        height=asked.size,
        width=asked.size,
        rounds=asked.rounds,
        threads=asked.threads,
        backends=("openvino",),
        on_progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    ceilings = measure_ceilings({SHIPPED_CHANNELS, PAPER_CHANNELS}, wish)
    for case in asked.cases:
        if case == "peers":
            values, targets = measure_peers(wish, ceilings), []
        else:
            values, targets = measure_models(case, wish, ceilings=ceilings)
        values["targets"] = [{**each._asdict(), "met": each.met} for each in targets]
        path = asked.results / f"upscale_speed-{case}-{date.today().isoformat()}.json"
        write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())
        for target in targets:
            print(target.as_text(), flush=True)


def measure_models(
    case: str, wish: BenchmarkOptions, *, ceilings: list[CeilingResult]
) -> tuple[dict[str, Any], list[Target]]:
    """Return the results of `paper` or of the shipped models, and the targets set for them."""
    wish = replace(wish, reference_rounds=REFERENCE_ROUNDS[case])
    if case == "paper":
        with subjects(("paper",), scale=4) as found:
            results = measure(found, replace(wish, precisions=("bf16",)), ceilings=ceilings)
    else:
        parts = []
        for bundle in shipped_bundles():
            data = _data(bundle.card.name)
            with subjects((bundle.card.name,), scale=bundle.card.scale) as found:
                parts.append(measure(found, replace(wish, data=data), ceilings=ceilings))
        models = [model for part in parts for model in part.models]
        results = parts[0].model_copy(update={"models": models, "data": _data_name()})
    print_speed(results)
    targets = [
        target
        for model in results.models
        for row in model.backends
        if row.backend != "reference"
        for target in targets_of(model, row, results=results)
    ]
    return results.model_dump(mode="json"), targets


def targets_of(model: ModelResult, row: BackendResult, *, results: SpeedResults) -> list[Target]:
    """Return the targets that a model's precision has."""
    name = f"{model.name} {row.backend} {row.precision}"
    over = row.speedup_over_expanded or row.speedup_over_reference
    interval = row.speedup_over_expanded_interval95 or row.speedup_interval95
    found: list[Target] = []
    paper = model.channels == PAPER_CHANNELS
    if row.precision == "bf16" and over is not None and interval is not None:
        least = 5.5 if paper else 6.5
        found.append(Target(f"{name}, times the expanded reference", least, over, interval))
        if not paper:
            found.append(Target(f"{name}, the mark", 8.0, over, interval))
    if row.precision == "bf16" and paper and row.share_of_ceiling is not None:
        share = share_interval(row)
        found.append(Target(f"{name}, share of the ceiling", 0.95, share.value, share.interval95))
    bf16 = next((each for each in model.backends if each.precision == "bf16"), None)
    if row.precision == "int8" and bf16 is not None:
        faster = ratio_of_medians(bf16.seconds, row.seconds)
        found.append(Target(f"{name}, times bf16", 1.6, faster.value, faster.interval95))
    if row.psnr_change_db is not None and row.precision != "fp32":
        change, most = abs(row.psnr_change_db), 0.05 if row.precision == "int8" else 0.01
        words = f"{name}, dB from fp32 ({row.psnr_change_by})"
        found.append(Target(words, most, change, (change, change), most=True))
    return found


def share_interval(row: BackendResult) -> Ratio:
    """Return the share of the ceiling with the interval that its runs give."""
    at_ceiling_s = row.median_s * (row.share_of_ceiling or 0)
    return ratio_of_medians([at_ceiling_s], row.seconds)


def measure_peers(wish: BenchmarkOptions, ceilings: list[CeilingResult]) -> dict[str, Any]:
    """Return our network and the plain one on all peers, run by run in turns."""
    bundle, sizes = peer_bundle(), peer_sizes()
    plain = PlainNet(sizes)
    rows = _run_peers(bundle, sizes=list(sizes), wish=wish)
    ours = rows[0]["seconds"]
    for row in rows:
        ratio = ratio_of_medians(row["seconds"], ours)
        row |= {"median_s": statistics.median(row["seconds"]), "times_ours": ratio.value}
        row["times_ours_interval95"] = ratio.interval95
        low, high = ratio.interval95
        print(f"{row['name']:40} {row['median_s']:.3f} s, {ratio.value:.2f} times ours "
              f"({low:.2f} to {high:.2f})", flush=True)  # fmt: skip
    kernels = [values for values in plain.parameters() if values.ndim == 4]
    gflop = sum(2 * values.numel() for values in kernels) / 1e3
    return {
        "date": date.today().isoformat(),
        "machine": machine(wish.threads).model_dump(),
        "lr_size": [wish.width, wish.height],
        "rounds": wish.rounds,
        "ceilings": [each.model_dump() for each in ceilings],
        "plain": {
            **sizes._asdict(),
            "parameters": parameter_count(plain),
            "gflop_per_lr_mp": gflop,
        },
        "model": {"name": PEER_MODEL, "parameters": bundle.card.parameters},
        "peers": rows,
    }


def _run_peers(bundle: Bundle, *, sizes: list[int], wish: BenchmarkOptions) -> list[dict[str, Any]]:
    """Return every peer's runs, ours first."""
    own = {"job": "engine", "bundle": str(bundle.folder), "backend": "openvino"}
    command = (sys.executable, str(Path(__file__).parent / "peers" / "worker.py"))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        workers: list[Worker] = []
        for precision in ("bf16", "fp32"):
            job = {**own, "precision": precision}
            workers.append(stack.enter_context(Worker(job, threads=wish.threads)))
            rows.append({"name": f"{PEER_MODEL} openvino {precision}"})
        for peer in PEERS:
            wish.on_progress(f"peer {peer}")
            worker = Worker({"peer": peer, "sizes": sizes}, threads=wish.threads, command=command)
            workers.append(stack.enter_context(worker))
            rows.append({"name": f"plain {peer}", **worker.request({"ask": "check"})})
        for worker in workers:
            worker.request({"ask": "run", "height": wish.height, "width": wish.width})
        for row, seconds in zip(rows, run_alternately(workers, wish=wish), strict=True):
            row["seconds"] = seconds
    return rows


def _data(name: str) -> Path | None:
    folder = os.environ.get("D2CSR_DATA")
    return Path(folder) / DATA[name] if folder and name in DATA else None


def _data_name() -> str | None:
    return "City100 test scenes" if os.environ.get("D2CSR_DATA") else None


if __name__ == "__main__":
    main()
