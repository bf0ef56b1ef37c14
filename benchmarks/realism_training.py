"""What simulated pairs are worth: models of one recipe trained on them and on bicubic pairs.

Both kinds are made from the photos of data/photos in `build/realism`; the models are tested on real
zoom pairs. Stopped, it goes on where it was. Written to `results/realism_training-2026-11-23.json`.

    D2CSR_DATA=DATA python benchmarks/realism_training.py [4] [3]
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from d2csr.core.files import write_atomically
from d2csr.core.results import PairedResult, Results, SystemResult
from d2csr.data.synthetic import make_bicubic_pairs
from d2csr.evaluate.report import evaluate_models
from d2csr.simulate.camera import Camera
from d2csr.simulate.run import Job, simulate
from d2csr.simulate.sources import photos_in

RESULTS = Path(__file__).parent / "results" / "realism_training-2026-11-23.json"
BUILD = Path("build/realism")
PHOTOS = "photos/clic2025"
SHOTS = {4: 10, 3: 2}  # of each photo, by the scale
KINDS = ("simulated", "bicubic")
TESTS = {
    4: ("realsr_x4_crops/test",),
    3: ("city100/nikon_d5500_x3/test", "city100/nikon_d5500_x3/val"),
}

UNSET = "D2CSR_DATA is not set: name the folder that holds photos/ in it"


def main() -> None:
    """Make pairs, train and test for the scales named, or for all; keep the figures."""
    data = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET))
    scales = [int(word) for word in sys.argv[1:]] or list(TESTS)
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for scale in scales:
        models = [trained(scale, kind, photos=data / PHOTOS) for kind in KINDS]
        for folder in TESTS[scale]:
            results = evaluate_models(tuple(str(model) for model in models), data / folder)
            found[folder] = figures(results)
            print(folder, json.dumps(found[folder], indent=1))
            write_atomically(RESULTS, f"{json.dumps(found, indent=1)}\n".encode())


def trained(scale: int, kind: str, *, photos: Path) -> Path:
    """Return the bundle of a run that is finished, now or before."""
    pairs, run = BUILD / f"x{scale}_{kind}", BUILD / f"run_x{scale}_{kind}"
    if not pairs.exists():
        make_pairs(pairs, photos, scale=scale, kind=kind)
    if not (run / "bundle").exists():
        recipe = f"experiments/realism_x{scale}_{kind}.yaml"
        words = [sys.executable, "-m", "d2csr", "train", recipe, "--out", str(run), "--resume"]
        subprocess.run(words, check=True)
    return run / "bundle"


def make_pairs(out: Path, photos: Path, *, scale: int, kind: str) -> None:
    """Write pairs of all photos: taken by the default camera, or reduced."""
    if kind == "bicubic":
        make_bicubic_pairs(photos, out, scale=scale, split="train")
        return
    job = Job(scale=scale, camera=Camera(), shots=SHOTS[scale], val=0, test=0)
    simulate(photos_in([photos], out=out), out, job=job)


def figures(results: Results) -> dict[str, object]:
    """Return a test's figures under names that say what they are."""
    paired = [paired_row(row) for row in results.paired if "bundle" in row.a + row.b]
    return {
        "protocol": "y",
        "pictures": len(results.results[0].images),
        "systems": {label(row.model): system_row(row) for row in results.results},
        "paired": paired,
    }


def label(model: str) -> str:
    """Return what a model was trained on, or the baseline's own name."""
    words = {"simulated": "trained on simulated pairs", "bicubic": "trained on bicubic pairs"}
    return next((words[kind] for kind in KINDS if f"_{kind}/" in model), model)


def system_row(row: SystemResult) -> dict[str, object]:
    """Return the means of a system and their interval."""
    return {
        "psnr_db": row.mean.psnr_db,
        "interval95": row.interval95.psnr_db,
        "ssim": row.mean.ssim,
        "psnr_registered_db": row.mean_psnr_registered_db,
        "weights_sha256": row.weights_sha256,
    }


def paired_row(row: PairedResult) -> dict[str, object]:
    """Return the difference of two systems on the same pictures."""
    return {
        "of": f"{label(row.a)} - {label(row.b)}",
        "diff_psnr_db": row.diff_psnr_db,
        "interval95": row.interval95,
    }


if __name__ == "__main__":
    main()
