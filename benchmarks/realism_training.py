"""Benefit of simulated pairs: models of one recipe trained on them and on bicubic pairs.

Both kinds are made from the photos of data/photos in `build/realism`; the models are tested on
real zoom pairs. If interrupted, it continues. Writes `results/realism_training-2026-11-23.json`.

    D2CSR_DATA=DATA python benchmarks/realism_training.py [4] [3]
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from d2csr.core.files import write_atomically
from d2csr.data.synthetic import make_bicubic_pairs
from d2csr.evaluation.evaluate import evaluate
from d2csr.simulate.camera_config import CameraConfig
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.scene import find_photos

RESULTS = Path(__file__).parent / "results" / "realism_training-2026-11-23.json"
BUILD = Path("build/realism")
PHOTOS = "photos/clic2025"
SHOTS = {4: 10, 3: 2}  # per photo, by scale
KINDS = ("simulated", "bicubic")
TESTS = {
    4: ("realsr_x4_crops/test",),
    3: ("city100/nikon_d5500_x3/test", "city100/nikon_d5500_x3/val"),
}

UNSET = "D2CSR_DATA is not set: set it to the folder that contains photos/"


def main() -> None:
    """Make pairs, train and test at the given scales, or at all; store the scores."""
    data = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET))
    scales = [int(word) for word in sys.argv[1:]] or list(TESTS)
    tests = json.loads(RESULTS.read_text())["tests"] if RESULTS.is_file() else {}
    for scale in scales:
        models = {
            f"{kind} pairs": train_once(
                f"realism_x{scale}_{kind}", pairs_folder(scale, kind, photos=data / PHOTOS)
            )
            for kind in KINDS
        }
        tests |= {folder: compare(models, data / folder, name=folder) for folder in TESTS[scale]}
        store(tests, RESULTS)


def pairs_folder(scale: int, kind: str, *, photos: Path) -> Path:
    """Return the folder of pairs; make them if they don't exist."""
    pairs = BUILD / f"x{scale}_{kind}"
    if not pairs.exists():
        make_pairs(pairs, photos, scale=scale, kind=kind)
    return pairs


def train_once(experiment: str, pairs: Path) -> Path:
    """Return the bundle of a finished run on these pairs; train it if it doesn't exist."""
    run = pairs.with_name(f"run_{pairs.name}")
    if not (run / "bundle").exists():
        recipe = f"experiments/{experiment}.yaml"
        command = [sys.executable, "-m", "d2csr", "train", recipe, "--output", str(run)]
        command += ["--resume", "--allow-outside"]  # manifests here may name published files
        subprocess.run(command, check=True)
    return run / "bundle"


def make_pairs(out: Path, photos: Path, *, scale: int, kind: str) -> None:
    """Write pairs of all photos: from the simulated default camera, or bicubic reductions."""
    if kind == "bicubic":
        make_bicubic_pairs(photos, out, scale=scale, split="train")
        return
    job = SimulationOptions(scale=scale, camera=CameraConfig(), shots=SHOTS[scale], val=0, test=0)
    simulate(find_photos([photos], output=out), out, options=job)


def compare(models: Mapping[str, Path], test: Path, *, name: str) -> dict[str, Any]:
    """Return the scores on a test set of models, by their training pairs, and of bicubic."""
    results = evaluate(tuple(map(str, models.values())), test)
    labels = {str(model): label for label, model in models.items()}
    labels["bicubic"] = "nothing: bicubic enlargement"
    scores = {
        "protocol": "y",
        "images": len(results.results[0].images),
        "psnr_db": {labels[row.model]: row.mean.psnr_db for row in results.results},
        "psnr_registered_db": {
            labels[row.model]: row.mean_psnr_registered_db for row in results.results
        },
        "ssim": {labels[row.model]: row.mean.ssim for row in results.results},
        "weights_sha256": {labels[row.model]: row.weights_sha256 for row in results.results},
        "paired": [
            row.model_dump() | {"a": labels[row.a], "b": labels[row.b]} for row in results.paired
        ],
    }
    print(name, json.dumps(scores, indent=1))
    return scores


def store(tests: Mapping[str, Any], path: Path) -> None:
    """Write the scores of all test sets, with the date."""
    results = {"date": date.today().isoformat(), "tests": tests}
    write_atomically(path, f"{json.dumps(results, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
