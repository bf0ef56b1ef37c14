"""Accuracy and speed of int8 against bfloat16 for the shipped models, variant by variant.

Each row is a model in int8 with one changed setting: of NNCF, or of the parts that are quantized.
PSNR is that of protocol `y` on the validation pairs; calibration uses only training pairs. Time is
processor time of all threads, which excludes other programs; runs alternate. A network of the
paper's width with random weights is timed as well.

    D2CSR_DATA=DATA python benchmarks/int8.py --threads 1
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch

from d2csr.core.bundle import Bundle, ModelMetadata
from d2csr.core.config import preset
from d2csr.core.files import write_atomically
from d2csr.core.manifest import Manifest
from d2csr.data.pairs import load_pair
from d2csr.data.sources import open_pairs
from d2csr.engine import open_engine
from d2csr.engine.backends.openvino_rewrites import split_bf16
from d2csr.engine.model import shipped_bundles
from d2csr.export.bundle_writer import export_bundle
from d2csr.export.quantization import (
    calibration_crops,
    calibration_inputs,
    float_graph,
    ignored_ops,
    import_nncf,
    psnr_db,
    quantize_graph,
    save_quantized,
)
from d2csr.models.d2csr import D2CSR

RESULTS = Path(__file__).parent / "results"
DATA = {"city100-nikon-x3": "nikon_d5500_x3", "city100-iphone-x2": "iphone_x_x2"}
THOROUGH = "city100-nikon-x3"  # measured in all variants; the others only as exported
ROUNDS = 9
ROLES = ("trunk", "tail")
WIDE_PX = 128


@dataclass(frozen=True)
class Variant:
    """Settings of a quantization.

    Attributes:
        name: of the row in the table.
        roles: graphs to quantize; the others stay in bfloat16.
        only: convolutions to quantize; None: all except those that an export ignores.
        images: number of crops to calibrate on.
        options: of NNCF.
    """

    name: str
    roles: tuple[str, ...] = ROLES
    only: tuple[str, ...] | None = None
    images: int = 24
    options: Mapping[str, Any] = field(default_factory=dict)


def main() -> None:
    """Measure every variant and write a dated JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", default=os.environ.get("D2CSR_DATA"), help="folder that contains city100/"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--no-variants", action="store_true", help="measure only what an export makes"
    )
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    results: dict[str, Any] = {
        "date": date.today().isoformat(),
        "threads": arguments.threads,
        "versions": {name: version(name) for name in ("openvino", "nncf", "numpy")},
    }
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["D2CSR_CACHE"] = scratch
        results["models"] = [
            measure_model(
                bundle,
                open_pairs(Path(arguments.data) / "city100" / DATA[bundle.card.name]),
                folder=Path(scratch) / bundle.card.name,
                thorough=bundle.card.name == THOROUGH and not arguments.no_variants,
            )
            for bundle in shipped_bundles()
        ]
        results["paper_width"] = measure_paper_width(Path(scratch))
    path = RESULTS / f"int8-{results['date']}.json"
    write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())


def measure_model(
    bundle: Bundle, pairs: Manifest, *, folder: Path, thorough: bool
) -> dict[str, Any]:
    """Return the PSNR and speed of a model in every precision and variant."""
    scale = bundle.card.scale
    train = [load_pair(pair, scale=scale)[0] for pair in pairs.of_split("train").pairs]
    val = pairs.of_split("val")
    plain: dict[str, Any] = {
        precision: round(psnr_db(bundle, precision, pairs=val), 4) for precision in ("fp32", "bf16")
    }
    print(bundle.card.name, plain, flush=True)
    rows = []
    chosen = Variant("as exported")
    for variant in (chosen, *(variants(bundle) if thorough else ())):
        try:
            quantized = with_variant(bundle, variant, train=train, folder=folder / variant.name)
        except (IndexError, RuntimeError) as error:  # NNCF's own
            rows.append({"variant": variant.name, "fails": f"{type(error).__name__}: {error}"})
            print(rows[-1], flush=True)
            continue
        row: dict[str, Any] = {
            "variant": variant.name,
            "psnr_db": round(psnr_db(quantized, "int8", pairs=val), 4),
        }
        row["cost_db"] = round(plain["fp32"] - row["psnr_db"], 4)
        if variant.only is None and set(variant.options) <= {"ignored_scope"}:
            lr8 = load_pair(val.pairs[0], scale=scale)[0]
            row |= compare_speed(quantized, lr01=lr8.astype(np.float32) / np.float32(255))
        print(row, flush=True)
        rows.append(row)
    return {
        "model": bundle.card.name,
        "images": len(val.pairs),
        "psnr_db": plain,
        "variants": rows,
        "profile_ms": profile(bundle, crops=list(calibration_crops(train))),
    }


def variants(bundle: Bundle) -> Iterator[Variant]:
    """Yield the variants to compare with that of an export."""
    nncf = import_nncf()
    from nncf.quantization.advanced_parameters import QuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    def advanced(**choices: Any) -> dict[str, Any]:
        return {"advanced_parameters": nncf.AdvancedQuantizationParameters(**choices)}

    smooth = nncf.AdvancedSmoothQuantParameters(convolution=0.15)
    coarse = QuantizationParameters(per_channel=False)
    widest = RangeEstimatorParametersSet.MINMAX
    yield Variant("plain: nothing left out", options={"ignored_scope": nncf.IgnoredScope()})
    yield Variant("trunk only", roles=("trunk",))
    yield Variant("tail only", roles=("tail",))
    yield Variant("60 crops", images=60, options={"subset_size": 60})
    yield Variant("mixed preset", options={"preset": nncf.QuantizationPreset.MIXED})
    yield Variant("no bias correction", options=advanced(disable_bias_correction=True))
    yield Variant("smooth-quant", options=advanced(smooth_quant_alphas=smooth))
    yield Variant("weights per tensor", options=advanced(weights_quantization_params=coarse))
    yield Variant("widest range", options=advanced(activations_range_estimator_params=widest))
    for role, parts in (("trunk", trunk_parts(bundle)), ("tail", tail_parts(bundle))):
        for name, convolutions in parts.items():
            yield Variant(f"only {name}", roles=(role,), only=convolutions)
    yield Variant(
        "trunk, full bias correction",
        roles=("trunk",),
        images=8,
        options={"fast_bias_correction": False},
    )


def trunk_parts(bundle: Bundle) -> dict[str, tuple[str, ...]]:
    """Return the convolutions of each part of the trunk, in writing order."""
    config, names = bundle.card.d2csr_config, convolutions(bundle, "trunk")
    of_branch = config.groups * (4 * config.blocks + 1) + 1
    parts = {"head": names[:1]}
    rest = names[1:]
    for level in range(1, config.depth + 1):
        count = of_branch * config.children**level
        parts[f"branches of level {level}"], rest = rest[:count], rest[count:]
    parts["deep residuals"] = rest
    return parts


def tail_parts(bundle: Bundle) -> dict[str, tuple[str, ...]]:
    """Return the convolutions of each part after the trunk."""
    leaves, names = bundle.card.config.leaves, convolutions(bundle, "tail")
    return {"tails": names[:leaves], "convergence": names[leaves:]}


def convolutions(bundle: Bundle, role: str) -> tuple[str, ...]:
    """Return the names of a graph's convolutions, the bicubic base aside, in writing order."""
    nodes = float_graph(bundle, role).get_ordered_ops()
    names = [n.get_friendly_name() for n in nodes if n.get_type_name() == "Convolution"]
    return tuple(sorted(names, key=lambda name: int(name.split("_")[1])))


def with_variant(
    bundle: Bundle, variant: Variant, *, train: Sequence[np.ndarray[Any, Any]], folder: Path
) -> Bundle:
    """Return the bundle with int8 graphs of one variant, in its own folder."""
    folder.mkdir(parents=True)
    crops = list(calibration_crops(train, count=variant.images))
    graphs = dict(bundle.card.graphs)
    for role, name in bundle.card.graphs.items():
        (folder / name).symlink_to(bundle.graph(role))
        graphs[f"{role}_int8"] = name
        if role in variant.roles:
            model = quantize_variant(bundle, role, crops=crops, variant=variant)
            graphs[f"{role}_int8"] = save_quantized(model, folder, role=role).name
    return Bundle(folder, replace(bundle.card, graphs=graphs))


def quantize_variant(
    bundle: Bundle, role: str, *, crops: Sequence[np.ndarray[Any, Any]], variant: Variant
) -> openvino.Model:
    """Return a role's graph in int8 with the settings of a variant, else as `quantize_graph`."""
    nncf = import_nncf()
    model = float_graph(bundle, role)
    inputs = [dict(each) for each in calibration_inputs(bundle, role, model=model, crops=crops)]
    left_out = _left_out(bundle, role, only=variant.only)
    ignored = nncf.IgnoredScope(names=[*ignored_ops(model, role=role), *left_out])
    settings = {"subset_size": len(inputs), "ignored_scope": ignored, **variant.options}
    return nncf.quantize(model, nncf.Dataset(inputs), **settings)


def compare_speed(bundle: Bundle, *, lr01: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the seconds per image in bfloat16 and int8, and the ratio over pairs of runs."""
    engines = {
        name: open_engine(bundle, backend="openvino", precision=name) for name in ("bf16", "int8")
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine.run(lr01)
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            seconds[name].append(processor_seconds(lambda run=engine.iter_strips: list(run(lr01))))
    ratios = sorted(a / b for a, b in zip(seconds["bf16"], seconds["int8"], strict=True))
    return {
        "bf16_s": round(statistics.median(seconds["bf16"]), 4),
        "int8_s": round(statistics.median(seconds["int8"]), 4),
        "speedup": round(statistics.median(ratios), 3),
        "speedup_range": [round(ratios[0], 3), round(ratios[-1], 3)],
    }


def profile(bundle: Bundle, *, crops: Sequence[np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Return the milliseconds of each kind of operation on one image, by role and precision."""
    lr = np.concatenate([np.concatenate(list(crops[i : i + 3]), 1) for i in (0, 3)])
    results: dict[str, Any] = {}
    inputs: dict[str, Any] = {"lr": np.ascontiguousarray(lr.transpose(2, 0, 1)[None])}
    inputs["features"] = _run(float_graph(bundle, "trunk"), inputs)[0]
    for role in ROLES:
        graphs = {
            "bf16": float_graph(bundle, role),
            "int8": quantize_graph(bundle, role, crops=crops),
        }
        if role == "tail":
            inputs["lr"] = split_bf16(inputs["lr"])
        results[role] = {name: _kinds(graph, inputs) for name, graph in graphs.items()}
    return results


def measure_paper_width(scratch: Path) -> dict[str, Any]:
    """Return the speed of a network of the paper's width, with random weights."""
    torch.manual_seed(0)
    card = ModelMetadata(name="paper-width", licence="none", data="random weights")
    bundle = export_bundle(D2CSR(preset("paper", 4)).eval(), scratch / "paper", metadata=card)
    noise = np.random.default_rng(0).integers(0, 256, (4, WIDE_PX, WIDE_PX, 3), dtype=np.uint8)
    quantized = with_variant(
        bundle, Variant("wide", images=2), train=list(noise), folder=scratch / "wide"
    )
    return compare_speed(quantized, lr01=noise[0].astype(np.float32) / np.float32(255))


def processor_seconds(work: Callable[[], object]) -> float:
    """Return the processor time that a call takes, of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _left_out(bundle: Bundle, role: str, *, only: Sequence[str] | None) -> list[str]:
    """Return the convolutions that stay in floating point."""
    return [] if only is None else [n for n in convolutions(bundle, role) if n not in only]


def _kinds(model: openvino.Model, inputs: Mapping[str, Any]) -> dict[str, float]:
    """Return the milliseconds of each kind of operation, the slowest first."""
    request = _request(model, PERF_COUNT=True)
    values = [inputs[port.get_any_name()] for port in model.inputs]
    for _ in range(3):
        request.infer(values)
    times: defaultdict[str, float] = defaultdict(float)
    for each in request.get_profiling_info():
        times[each.node_type] += each.real_time.total_seconds() * 1000
    slowest_first = sorted(times.items(), key=lambda item: -item[1])
    return {kind: round(ms, 1) for kind, ms in slowest_first if ms >= 0.5}


def _run(model: openvino.Model, inputs: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
    results = _request(model).infer([inputs[port.get_any_name()] for port in model.inputs])
    return list(results.values())


def _request(model: openvino.Model, **properties: Any) -> openvino.InferRequest:
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY", **properties}
    return openvino.Core().compile_model(model, "CPU", settings).create_infer_request()


if __name__ == "__main__":
    main()
