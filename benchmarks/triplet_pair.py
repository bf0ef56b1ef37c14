"""Effect of the triplet term: disagreement and PSNR of recipes that differ only in alpha.

Takes the finished runs of `experiments/triplet_*.yaml` and scores them on their validation pairs.

    D2CSR_DATA=DATA python benchmarks/triplet_pair.py runs/triplet_off runs/triplet_on
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

import d2csr
from d2csr.core.files import write_atomically
from d2csr.data.pairs import load_pair
from d2csr.data.sources import open_pairs
from d2csr.metrics.protocols import score

RESULTS = Path(__file__).parent / "results" / "triplet_pair.json"
PAIRS = "city100/nikon_d5500_x3/val"

UNSET = "D2CSR_DATA is not set: set it to the folder that contains city100/"


def main() -> None:
    """Score every run named on the command line and store the scores."""
    runs = [Path(word) for word in sys.argv[1:]]
    if not runs:
        print(f"no runs were given: name them as in\n{__doc__}")
        return
    scores = {run.name: score_run(run) for run in runs}
    text = json.dumps({"pairs": f"$D2CSR_DATA/{PAIRS}", "protocol": "y", "runs": scores}, indent=1)
    write_atomically(RESULTS, f"{text}\n".encode())
    print(text)


def score_run(run: Path) -> dict[str, object]:
    """Return a run's disagreement, and the PSNR of its SR, of each leaf and of their mean."""
    model = d2csr.load(run)
    rows, disagreement = [], []
    for pair in open_pairs(Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET)) / PAIRS):
        lr, hr = load_pair(pair, scale=model.scale)
        prediction = model.predict(lr)
        mean = np.rint(prediction.predictions.mean(axis=0)).astype(np.uint8)
        images = (prediction.sr, mean, *prediction.predictions)
        rows.append([score(p, hr, protocol="y", scale=model.scale).psnr_db for p in images])
        disagreement.append(float(prediction.disagreement.mean()))
    sr, plain_mean, *leaves = np.mean(rows, axis=0).tolist()
    return {
        "psnr_db": sr,
        "psnr_db_of_the_mean": plain_mean,
        "psnr_db_of_leaves": leaves,
        "disagreement_grey_levels": float(np.mean(disagreement)),
        "weights_sha256": model.bundle.weights_sha256,
    }


if __name__ == "__main__":
    main()
