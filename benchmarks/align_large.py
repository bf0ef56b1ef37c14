"""Time and memory of `d2csr align` with a tele frame of 24 megapixels.

The pair is simulated: a procedural scene and the default camera, x4. Writes a dated JSON file into
`results`. Takes about 2 minutes.

    python benchmarks/align_large.py
"""

import json
import sys
import tempfile
from datetime import date
from pathlib import Path

from watched import run_watched

from d2csr.core.files import write_atomically
from d2csr.core.geometry import Size
from d2csr.images.reader import read_size
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.ground_truth import read_truth
from d2csr.simulate.scene import Procedural

RESULTS = Path(__file__).parent / "results"
SCALE, SCENE = 4, Size(10800, 7200)  # a tele frame of about 6000x4000


def main() -> None:
    """Simulate the pair, align it and store time and memory."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        captures, out = folder / "captures", folder / "pairs"
        simulate(
            [Procedural(SCENE, (4, 24))],
            captures,
            options=SimulationOptions(scale=SCALE, captures=True),
        )
        (truth,) = read_truth(captures)
        tele = read_size(captures / truth.tele_file)
        command = [sys.executable, "-m", "d2csr", "align", str(captures), "-o", str(out)]
        watched = run_watched([*command, "--scale", str(SCALE)])
        (pair,) = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["pairs"]
        values = {
            "date": date.today().isoformat(),
            "scale": SCALE,
            "tele_size": list(tele),
            "hr_size": list(read_size(out / pair["hr"])),
            "seconds": round(watched.seconds, 1),
            "peak_bytes": watched.peak_bytes,
        }
    text = f"{json.dumps(values, indent=1)}\n"
    write_atomically(RESULTS / f"align_large-{values['date']}.json", text.encode())
    print(text)


if __name__ == "__main__":
    main()
