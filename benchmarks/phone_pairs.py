"""Pairs that `d2csr align` makes from a phone's two lenses, at short range and indoors.

This is the hardest case: the lenses are side by side, so the displacement depends on the depth.
Writes a dated JSON file into `results`; takes about 2 minutes. Look at the HTML report, too.

    D2CSR_DATA=DATA python benchmarks/phone_pairs.py [--output DIR]
"""

import argparse
import json
import os
import sys
import tempfile
from datetime import date
from pathlib import Path

from d2csr.align.build import align_folder
from d2csr.align.dataset import DatasetLayout
from d2csr.align.steps import Settings
from d2csr.core.files import write_atomically

RESULTS = Path(__file__).parent / "results"
PHOTOS = "tele_wide_unaligned"
SCALE = 2
UNSET = f"D2CSR_DATA is not set: set it to the folder that contains {PHOTOS}/"


def main() -> None:
    """Align all pairs and store verdicts and scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", "-o", type=Path, help="folder for the dataset and its report")
    arguments = parser.parse_args()
    photos = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET)) / PHOTOS
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.output or Path(folder) / "set"
        settings, layout = Settings(SCALE), DatasetLayout(SCALE)
        summary = align_folder(photos, out, settings=settings, layout=layout)
    values = {
        "date": date.today().isoformat(),
        "scale": SCALE,
        "pairs": [
            {
                "capture": result.photos.name,
                "verdict": result.verdict.status,
                "reason": result.verdict.reason,
                "scores": result.registration.scores,
            }
            for result in summary.results
        ],
    }
    path = RESULTS / f"phone_pairs-{values['date']}.json"
    write_atomically(path, f"{json.dumps(values, indent=1)}\n".encode())
    print(f"{summary.count('accepted')} of {len(summary.results)} accepted: {path}")


if __name__ == "__main__":
    main()
