"""Command `export`: a run or a checkpoint to a bundle."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from d2csr.core.bundle import ModelMetadata


@dataclass(frozen=True)
class Card:
    """What the card is to say where the run doesn't, or says otherwise.

    Attributes:
        licence: Licence of the weights.
        data: What they were trained on.
        description: What the model is for.
    """

    licence: str | None = None
    data: str | None = None
    description: str | None = None


NOTHING_SAID = Card()


def export(
    source: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    name: Annotated[str | None, Parameter(name=("--name", "-n"))] = None,
    card: Annotated[Card, Parameter(name="*")] = NOTHING_SAID,
    verify_on: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative=())] = (),
    int8: Path | None = None,
) -> int:
    """Make a bundle, which `d2csr upscale -n` takes, from a run, a checkpoint or another bundle.

    Graphs and network are compared first; over a difference of 1e-5 nothing is written. A bundle
    exported onto itself gets its graphs anew and keeps what its card says.

    Args:
        source: Of a run its bundle counts, or else its best checkpoint, or else its last one.
        output: Folder for the bundle; a bundle that lies there is replaced.
        name: What the model is called; else what the run calls it.
        verify_on: LR images to compare on; without any, noise.
        int8: Pairs, a manifest or a folder: graphs in int8 are added, calibrated on their train
            split; over 0.05 dB lost on their val split nothing is written. Needs the extra
            `quantize`.
    """
    from d2csr.checkpoint.io import find_weights, load_weights  # torch takes seconds to load
    from d2csr.data.sources import open_pairs
    from d2csr.engine.backends.base import meets_accuracy_target
    from d2csr.export.bundle_writer import export_bundle
    from d2csr.export.verification import LIMIT
    from d2csr.images.reader import read_rgb8

    weights = find_weights(source)
    said = {"name": name, **vars(card)}
    facts = replace(
        _known_facts(weights, source), **{key: value for key, value in said.items() if value}
    )
    images = [read_rgb8(path) for path in verify_on]
    network = load_weights(weights)
    pairs = None if int8 is None else open_pairs(int8, scale=network.config.scale)
    bundle = export_bundle(network, output, metadata=facts, verify_on=images, int8_by=pairs)
    parameters = f"{bundle.card.parameters:,} parameters as run"
    print(f"{output}: {bundle.card.name}, x{bundle.card.scale}, {parameters}")
    print(f"fp32: verified, within {LIMIT:.0e} of the largest value of its network")
    for precision, loss in bundle.card.precisions.items():
        kept = (
            "kept" if meets_accuracy_target(bundle.card, precision) else "not kept: not for `auto`"
        )
        cost = (
            "" if loss.psnr_loss_db is None else f", {loss.psnr_loss_db:.3f} dB of PSNR lost on val"
        )
        near = f"{loss.psnr_to_fp32_db:.1f} dB from fp32{cost}"
        print(f"{precision}: {near}; promise of 0.01 dB {kept}")
    return 0


def _known_facts(weights: Path, source: Path) -> "ModelMetadata":
    """Return what lies beside the weights: a bundle's card, or else a run's recipe and state."""
    from d2csr.checkpoint.io import STATE_FILE, read_state, trained_steps
    from d2csr.core.bundle import CARD_NAME, ModelMetadata, read_bundle
    from d2csr.training.recipe import read_recipe

    folder = weights.resolve().parent
    if (folder / CARD_NAME).is_file():
        return read_bundle(folder).card.metadata
    facts = ModelMetadata(name=source.resolve().stem, licence="unstated", data="unstated")
    for path in _recipes(folder):
        recipe = read_recipe(path)
        facts = ModelMetadata(
            name=recipe.name,
            licence=recipe.licence,
            data=recipe.data_note,
            seed=recipe.seed,
            description=recipe.description,
        )
    if (folder / STATE_FILE).is_file():
        state = read_state(folder)
        facts = replace(facts, steps=trained_steps(folder), machine=state["machine"])
    return facts


def _recipes(folder: Path) -> Iterator[Path]:
    """Yield the recipe of the run that a checkpoint folder lies in, if it lies in one."""
    from d2csr.training.recipe import RECIPE_NAME

    places = [each / RECIPE_NAME for each in folder.parents[:2]]  # run/best, run/checkpoints/step-1
    yield from [place for place in places if place.is_file()][:1]
