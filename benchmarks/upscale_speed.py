"""Speed of upscaling: against `reference`, against the machine's ceilings, and against peers.

Cases: `paper` (x4, random weights: time doesn't depend on them), `shipped` (all shipped models),
`peers` (a plain network with as many parameters as a shipped model, random ones, on ncnn, ONNX
Runtime and compiled PyTorch; `plain_peer.py` trains it) and `networks` (photo-x4 beside networks
that other programs ship, on OpenVINO, ncnn and ONNX Runtime). The runs of a case alternate.
Writes a dated JSON file per case and prints which targets are met: a target is met if the 95%
interval reaches it. Takes about 8 minutes on 2 idle cores; `--cases` selects some of them.

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

from peers.plain import (
    PEER_MODEL,
    PlainNet,
    make_network,
    parameter_count,
    peer_bundle,
    peer_sizes,
)

from d2csr.core.bundle import Bundle
from d2csr.core.files import write_atomically
from d2csr.core.hardware import usable_cores
from d2csr.engine.model import shipped_bundles
from d2csr.export.bundle_writer import export_random_bundle
from d2csr.speed.candidates import open_candidates
from d2csr.speed.charts import print_speed
from d2csr.speed.measure import (
    BenchmarkOptions,
    Ratio,
    measure,
    measure_ceilings,
    ratio_of_medians,
    run_alternately,
)
from d2csr.speed.speed_results import (
    BackendResult,
    CeilingResult,
    ModelResult,
    read_machine,
)
from d2csr.speed.worker import Worker

RESULTS = Path(__file__).parent / "results"
CASES = ("paper", "shipped", "peers", "networks")
PEERS = ("ncnn fp32", "ncnn bf16", "onnxruntime fp32", "torch compile fp32", "torch compile bf16")
ENGINES = ("openvino bf16", "openvino fp32", "ncnn fp32", "ncnn bf16", "onnxruntime fp32")
# Networks of Real-ESRGAN, and how often photo-x4 must upscale an image in the time of one.
NETWORKS: dict[str, tuple[dict[str, Any], float]] = {
    "RRDBNet-23": ({"system": "rrdbnet", "scale": 4}, 25.0),
    "SRVGGNetCompact 64x32": ({"system": "srvgg", "scale": 4, "middle": 32}, 2.0),
}
NETWORKS_MODEL = "photo-x4"
# `reference` takes about 45 s to run the paper's network once, so its median is over three runs.
REFERENCE_ROUNDS = {"paper": 3, "shipped": 5}
PAPER_CHANNELS = 64
SHARES_OF_CEILING = {"photo-x2": 0.75, "photo-x4": 0.75}
DATA = {"city100-nikon-x3": "city100/nikon_d5500_x3", "city100-iphone-x2": "city100/iphone_x_x2"}


class Target(NamedTuple):
    """A value to reach, and the value that was measured.

    Attributes:
        description: of the value.
        limit: lower limit of the value; the upper limit if `is_upper_limit`.
        value: the measured value.
        interval95: its interval; twice the value if it has none.
        is_upper_limit: whether the value must be below the limit.
    """

    description: str
    limit: float
    value: float
    interval95: tuple[float, float]
    is_upper_limit: bool = False

    @property
    def is_met(self) -> bool:
        """Return whether the interval reaches the limit."""
        low, high = self.interval95
        return low <= self.limit if self.is_upper_limit else high >= self.limit

    def as_text(self) -> str:
        """Return the target in one line."""
        sign, (low, high) = "<=" if self.is_upper_limit else ">=", self.interval95
        state = "met" if self.is_met else "MISSED"
        value = f"{self.value:.4g} ({low:.4g} to {high:.4g})"
        return f"{state:6} {self.description}: {value}, must be {sign} {self.limit:g}"

    def as_json(self) -> dict[str, Any]:
        """Return the target with the keys of the results files."""
        return {
            "what": self.description,
            "wanted": self.limit,
            "found": self.value,
            "interval95": self.interval95,
            "most": self.is_upper_limit,
            "met": self.is_met,
        }


def main() -> None:
    """Measure the cases and write a file for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--size", type=int, default=512, help="side of the LR image, in pixels")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON files")
    arguments = parser.parse_args()
    options = BenchmarkOptions(
        height=arguments.size,
        width=arguments.size,
        rounds=arguments.rounds,
        threads=arguments.threads,
        backends=("openvino",),
        on_progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    widths = {bundle.card.d2csr_config.channels for bundle in shipped_bundles()}
    ceilings = measure_ceilings({*widths, PAPER_CHANNELS}, options)
    for case in arguments.cases:
        if case == "peers":
            values, targets = measure_peers(options, ceilings), []
        elif case == "networks":
            values, targets = measure_networks(options)
        else:
            values, targets = measure_models(case, options, ceilings=ceilings)
        values["targets"] = [target.as_json() for target in targets]
        path = arguments.results / f"upscale_speed-{case}-{date.today().isoformat()}.json"
        write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())
        for target in targets:
            print(target.as_text(), flush=True)


def measure_models(
    case: str, options: BenchmarkOptions, *, ceilings: list[CeilingResult]
) -> tuple[dict[str, Any], list[Target]]:
    """Return the results of `paper` or of the shipped models, and their targets."""
    options = replace(options, reference_rounds=REFERENCE_ROUNDS[case])
    if case == "paper":
        with open_candidates(("paper",), scale=4, make_random=export_random_bundle) as candidates:
            results = measure(candidates, replace(options, precisions=("bf16",)), ceilings=ceilings)
    else:
        parts = []
        for bundle in shipped_bundles():
            data = _data(bundle.card.name)
            with open_candidates(
                (bundle.card.name,), scale=bundle.card.scale, make_random=export_random_bundle
            ) as candidates:
                part = measure(candidates, replace(options, data=data), ceilings=ceilings)
                parts.append(part)
        models = [model for part in parts for model in part.models]
        results = parts[0].model_copy(update={"models": models, "data": _data_name()})
    print_speed(results)
    targets = [
        target
        for model in results.models
        for row in model.backends
        if row.backend != "reference"
        for target in targets_for(model, row)
    ]
    return results.model_dump(mode="json"), targets


def targets_for(model: ModelResult, row: BackendResult) -> list[Target]:
    """Return the targets of a model in one precision."""
    name = f"{model.name} {row.backend} {row.precision}"
    times, accuracy = row.times, row.accuracy
    speedup = times.speedup_over_expanded or times.speedup_over_reference
    interval = times.speedup_over_expanded_interval95 or times.speedup_interval95
    targets: list[Target] = []
    is_paper = model.channels == PAPER_CHANNELS
    if row.precision == "bf16" and speedup is not None and interval is not None:
        minimum = 5.5 if is_paper else 6.5
        targets.append(Target(f"{name}, times the expanded reference", minimum, speedup, interval))
        if not is_paper:
            targets.append(Target(f"{name}, the mark", 8.0, speedup, interval))
    if row.precision == "bf16" and row.throughput.share_of_ceiling is not None:
        limit = 0.95 if is_paper else SHARES_OF_CEILING.get(model.name)
        share = share_interval(row)
        if limit is not None:
            targets.append(Target(f"{name}, share of the ceiling", limit, *share))
    bf16 = next((each for each in model.backends if each.precision == "bf16"), None)
    if row.precision == "int8" and bf16 is not None:
        ratio = ratio_of_medians(bf16.times.seconds, times.seconds)
        targets.append(Target(f"{name}, times bf16", 1.6, ratio.value, ratio.interval95))
    if accuracy.psnr_change_db is not None and row.precision != "fp32":
        change, maximum = abs(accuracy.psnr_change_db), 0.05 if row.precision == "int8" else 0.01
        description = f"{name}, dB from fp32 ({accuracy.psnr_change_by})"
        targets.append(Target(description, maximum, change, (change, change), is_upper_limit=True))
    return targets


def share_interval(row: BackendResult) -> Ratio:
    """Return the share of the ceiling with its bootstrap interval over the runs."""
    at_ceiling_s = row.times.median_s * (row.throughput.share_of_ceiling or 0)
    return ratio_of_medians([at_ceiling_s], row.times.seconds)


def measure_peers(options: BenchmarkOptions, ceilings: list[CeilingResult]) -> dict[str, Any]:
    """Return the times of a shipped model and of the plain network on all peers, alternating."""
    bundle, sizes = peer_bundle(), peer_sizes()
    plain = PlainNet(sizes)
    peers = {f"plain {peer}": {"peer": peer, "network": {"plain": list(sizes)}} for peer in PEERS}
    rows = _run_peers(bundle, peers, options=options)
    kernels = [values for values in plain.parameters() if values.ndim == 4]
    gflop = sum(2 * values.numel() for values in kernels) / 1e3
    return {
        **_describe_run(options),
        "ceilings": [each.model_dump() for each in ceilings],
        "plain": {
            **sizes._asdict(),
            "parameters": parameter_count(plain),
            "gflop_per_lr_mp": gflop,
        },
        "model": {"name": PEER_MODEL, "parameters": bundle.card.parameters},
        "peers": rows,
    }


def measure_networks(options: BenchmarkOptions) -> tuple[dict[str, Any], list[Target]]:
    """Return the times of photo-x4 and of other programs' networks, each on every engine.

    A target compares with a network's best engine.
    """
    bundle = next(each for each in shipped_bundles() if each.card.name == NETWORKS_MODEL)
    peers = {
        f"{name} {engine}": {"peer": engine, "network": network}
        for name, (network, _) in NETWORKS.items()
        for engine in ENGINES
    }
    rows = _run_peers(bundle, peers, options=options)
    targets: list[Target] = []
    for name, (_, limit) in NETWORKS.items():
        best = min((r for r in rows if r["name"].startswith(name)), key=lambda r: r["median_s"])
        description = f"{best['name']}, times {NETWORKS_MODEL}'s time"
        interval = best["times_ours_interval95"]
        targets.append(Target(description, limit, best["times_ours"], interval))
    parameters = {
        name: parameter_count(make_network(network)) for name, (network, _) in NETWORKS.items()
    }
    model = {"name": NETWORKS_MODEL, "parameters": bundle.card.parameters}
    values = {**_describe_run(options), "networks": parameters, "model": model, "peers": rows}
    return values, targets


def _describe_run(options: BenchmarkOptions) -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "machine": read_machine(options.threads).model_dump(),
        "lr_size": [options.width, options.height],
        "rounds": options.rounds,
    }


def _run_peers(
    bundle: Bundle, peers: dict[str, dict[str, Any]], *, options: BenchmarkOptions
) -> list[dict[str, Any]]:
    """Return the runs of the shipped model and of every peer, with ratios to the model's time."""
    own = {"job": "engine", "bundle": str(bundle.folder), "backend": "openvino"}
    command = (sys.executable, str(Path(__file__).parent / "peers" / "worker.py"))
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        workers: list[Worker] = []
        for precision in ("bf16", "fp32"):
            job = {**own, "precision": precision}
            workers.append(stack.enter_context(Worker(job, threads=options.threads)))
            rows.append({"name": f"{bundle.card.name} openvino {precision}"})
        for name, job in peers.items():
            options.on_progress(f"peer {name}")
            worker = stack.enter_context(Worker(job, threads=options.threads, command=command))
            workers.append(worker)
            rows.append({"name": name, **worker.request({"command": "check"})})
        for worker in workers:
            worker.request({"command": "run", "height": options.height, "width": options.width})
        for row, seconds in zip(rows, run_alternately(workers, options=options), strict=True):
            row["seconds"] = seconds
    _add_ratios(rows)
    return rows


def _add_ratios(rows: list[dict[str, Any]]) -> None:
    """Add each row's median and its ratio to the first row's; print them."""
    ours = rows[0]["seconds"]
    for row in rows:
        ratio = ratio_of_medians(row["seconds"], ours)
        row |= {"median_s": statistics.median(row["seconds"]), "times_ours": ratio.value}
        row["times_ours_interval95"] = ratio.interval95
        low, high = ratio.interval95
        print(f"{row['name']:40} {row['median_s']:.3f} s, {ratio.value:.2f} times ours "
              f"({low:.2f} to {high:.2f})", flush=True)  # fmt: skip


def _data(name: str) -> Path | None:
    folder = os.environ.get("D2CSR_DATA")
    return Path(folder) / DATA[name] if folder and name in DATA else None


def _data_name() -> str | None:
    return "City100 test scenes" if os.environ.get("D2CSR_DATA") else None


if __name__ == "__main__":
    main()
