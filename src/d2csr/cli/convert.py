"""Command `convert official`: the authors' checkpoint to a bundle."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def official(
    checkpoint: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    scale: Annotated[int | None, Parameter(name=("--scale", "-s"))] = None,
) -> int:
    """Convert a checkpoint of the paper's authors into a model folder.

    The pickle is read as data: nothing in it is run.

    Args:
        checkpoint: The `checkpoint.pkl` that their trainer saved.
        out: Folder for the model; `d2csr upscale -n` takes it.
        scale: What the weights enlarge by, to make sure; the file itself tells.
    """
    from d2csr.checkpoint.official import load_official  # `d2csr --help` needs no torch
    from d2csr.core.bundle import ModelMetadata
    from d2csr.export.bundle_writer import export_bundle

    network = load_official(checkpoint, scale=scale)
    card = ModelMetadata(
        name=out.resolve().name,
        licence="that of the checkpoint",
        data=f"unknown; converted from {checkpoint.name}",
        description="Weights trained with the code of the paper's authors.",
    )
    bundle = export_bundle(network, out, metadata=card)
    parameters = network.parameter_count()
    print(
        f"{out}: x{network.config.scale}, {parameters} parameters, name {bundle.card.metadata.name}"
    )
    return 0
