"""The end of a run: its best weights exported as a bundle, and their figures printed."""

import torch

from d2csr.checkpoint.load import BEST, BUNDLE, read_file
from d2csr.checkpoint.save import MODEL
from d2csr.core.bundle import CardFacts
from d2csr.core.manifest import Manifest
from d2csr.core.results import write_results
from d2csr.data.pairs import load_pair
from d2csr.evaluate.card import card_figures
from d2csr.evaluate.extras import Extras
from d2csr.evaluate.report import evaluate_models
from d2csr.evaluate.table import print_results
from d2csr.export.write import export_bundle, set_figures
from d2csr.models.d2csr import D2CSR
from d2csr.train.run import Run, machine
from d2csr.train.setup import expanded
from d2csr.train.validate import PROTOCOL

RESULTS = "results.json"
_COMPARED = 2  # pictures that bundle and network are compared on


def finish(run: Run, pairs: Manifest, *, validation: Manifest | None) -> None:
    """Export the run's bundle and, where there are validation pairs, print and keep its scores."""
    pictures = (validation or pairs).pairs[:_COMPARED]
    folder = run.folder / BUNDLE
    export_bundle(
        best_network(run),
        folder,
        card=card_facts(run),
        verify_on=[load_pair(pair, scale=pairs.scale)[0] for pair in pictures],
    )
    if validation is None or run.recipe.data.validate_on is None:
        return
    place = expanded(run.recipe.data.validate_on)
    splits = {pair.split for pair in validation.pairs}
    extras = Extras(split=splits.pop() or None) if len(splits) == 1 else Extras()
    results = evaluate_models(
        (str(folder),), place, protocols=(PROTOCOL,), scale=pairs.scale, extras=extras
    )
    write_results(results, run.folder / RESULTS)
    set_figures(folder, card_figures(results, model=str(folder), data="validation pairs"))
    print_results(results)


def best_network(run: Run) -> D2CSR:
    """Return the network with the run's best weights; without validation, the averaged ones."""
    path = run.folder / BEST / MODEL
    tensors = read_file(path)[0] if path.is_file() else run.average.tensors
    network = D2CSR(run.recipe.finished_config())
    network.load_state_dict(tensors)
    return network.to("cpu", torch.float32).eval()


def card_facts(run: Run) -> CardFacts:
    """Return what the run knows of its model."""
    recipe = run.recipe
    return CardFacts(
        name=recipe.name,
        licence=recipe.licence,
        data=recipe.data_note,
        steps=run.earlier_steps + (run.best.step if run.best.step >= 0 else run.step),
        seed=recipe.seed,
        machine=machine(run.devices.device),
        preset=recipe.model.preset,
        description=recipe.description,
    )
