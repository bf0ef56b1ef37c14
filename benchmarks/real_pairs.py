"""Scores of the shipped models and two baselines on the real test pairs of their cameras.

All protocols, with intervals, paired differences and calibration; written to
`results/real_pairs-MODEL.json`, from which README and the cards of the models take their scores.

    D2CSR_DATA=DATA python benchmarks/real_pairs.py
"""

import os
import sys
from pathlib import Path

from d2csr.core.results import Results, write_results
from d2csr.engine.model import find_bundle
from d2csr.evaluation.checks import EvaluationOptions
from d2csr.evaluation.evaluate import evaluate, model_scores
from d2csr.evaluation.tables import print_results
from d2csr.export.bundle_writer import update_scores
from d2csr.metrics.protocols import PROTOCOLS

RESULTS = Path(__file__).parent / "results"
SETS = {
    "city100-nikon-x3": ("city100/nikon_d5500_x3", "City100 test scenes, Nikon D5500"),
    "city100-iphone-x2": ("city100/iphone_x_x2", "City100 test scenes, iPhone X"),
}
ON_CARDS = "y"

UNSET = "D2CSR_DATA is not set: set it to the folder that contains city100/"


def main() -> None:
    """Score every shipped model, store the results and update the cards."""
    data = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET))
    for name, (folder, description) in SETS.items():
        results = portable(measure(name, data / folder), folder)
        print_results(results)
        write_results(results, RESULTS / f"real_pairs-{name}.json")
        scores = model_scores(results, model=name, data=description)
        on_card = [score for score in scores if score.protocol == ON_CARDS]
        update_scores(find_bundle(name), on_card)


def measure(name: str, folder: Path) -> Results:
    """Return the scores of a model and the baselines on a set's test pairs."""
    options = EvaluationOptions(fit=folder / "train", calibration=True)
    return evaluate(("linear", name), folder / "test", protocols=tuple(PROTOCOLS), options=options)


def portable(results: Results, folder: str) -> Results:
    """Return the results with paths relative to $D2CSR_DATA."""
    systems = [
        row.model_copy(update={"fitted_on": row.fitted_on and f"$D2CSR_DATA/{folder}/train"})
        for row in results.results
    ]
    command = "python benchmarks/real_pairs.py"
    data = f"$D2CSR_DATA/{folder}/test"
    return results.model_copy(update={"results": systems, "command": command, "data": data})


if __name__ == "__main__":
    main()
