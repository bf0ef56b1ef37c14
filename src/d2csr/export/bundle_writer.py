"""The writer of bundles: weights, graphs, card and readme in one folder, whole or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from d2csr.checkpoint.io import save_weights
from d2csr.core.bundle import (
    WEIGHTS_NAME,
    Bundle,
    EvaluationScore,
    ModelCard,
    ModelMetadata,
    read_bundle,
)
from d2csr.core.bundle_readme import check_bundle_folder, write_card_and_readme
from d2csr.core.config import ModelConfig, find_preset
from d2csr.core.files import atomic_folder, sha256_file
from d2csr.core.manifest import Manifest
from d2csr.core.network_cost import network_cost
from d2csr.export.graphs import (
    write_border_tail,
    write_fusion,
    write_inner_tail,
    write_tail,
    write_trunk,
)
from d2csr.export.quantization import add_int8, check_quantizable, int8_psnr_loss_db
from d2csr.export.verification import (
    measure_precision_errors,
    noise_image,
    verify_against_network,
)
from d2csr.models.d2csr import D2CSR


def export_bundle(
    network: D2CSR,
    folder: Path,
    *,
    metadata: ModelMetadata,
    verify_on: Sequence[UInt8[np.ndarray, "_ _ 3"]] = (),
    int8_by: Manifest | None = None,
) -> Bundle:
    """Write a network as a bundle, verify that the engine agrees with it, and return the bundle.

    Args:
        network: expanded or collapsed; its weights are kept as they are, its graphs collapsed.
        folder: of the bundle; a bundle already there is replaced at the end.
        metadata: name, licence, training and scores; the preset is found by the network's sizes.
        verify_on: real LR images to compare on; without any, an image of noise.
        int8_by: pairs with a train split to calibrate int8 on and a val split to measure its loss
            on; None: no graphs in int8.

    Raises:
        BundleError: bundle and network differ by more than the limit, int8 loses too much, or the
            folder holds something else; the folder is as it was.
        UsageError: int8 isn't possible here, or not with these pairs.
    """
    check_bundle_folder(folder)
    if int8_by is not None:
        check_quantizable(int8_by)
    with atomic_folder(folder) as temporary:
        bundle = _write_float32(network, temporary, metadata=metadata)
        verify_against_network(bundle, network, images=verify_on or [noise_image()])
        if int8_by is not None:
            bundle = replace(bundle, card=add_int8(bundle, pairs=int8_by))
        errors = measure_precision_errors(bundle, images=verify_on)
        if int8_by is not None:
            loss_db = int8_psnr_loss_db(bundle, pairs=int8_by)
            errors["int8"] = replace(errors["int8"], psnr_loss_db=loss_db)
        write_card_and_readme(temporary, replace(bundle.card, precisions=errors))
    return read_bundle(folder)


def export_random_bundle(config: ModelConfig, folder: Path) -> Bundle:
    """Write a network with random weights, always the same ones, as a bundle and return it."""
    torch.manual_seed(0)
    metadata = ModelMetadata(name="random", licence="none", data="none: random weights")
    return export_bundle(D2CSR(config).eval(), folder, metadata=metadata)


def update_scores(folder: Path, scores: Sequence[EvaluationScore]) -> Bundle:
    """Write the scores of a model on its card and return the bundle; no other file changes."""
    card = read_bundle(folder).card
    metadata = replace(card.metadata, scores=tuple(scores))
    write_card_and_readme(folder, replace(card, metadata=metadata))
    return read_bundle(folder)


def _write_float32(network: D2CSR, folder: Path, *, metadata: ModelMetadata) -> Bundle:
    """Write weights, graphs and card; return the bundle, which has no other precision."""
    config = network.config
    save_weights(network, folder / WEIGHTS_NAME)
    graphs = _write_graphs(network.collapse().cpu().float(), folder)
    names = [WEIGHTS_NAME, *graphs.values()]
    card = ModelCard(
        metadata=replace(metadata, preset=find_preset(config)),
        scale=config.scale,
        parameters=network_cost(config, collapsed=True).parameters,
        config=config,
        receptive_field=config.receptive_field,
        graphs=graphs,
        files={name: sha256_file(folder / name) for name in names},
    )
    write_card_and_readme(folder, card)
    return read_bundle(folder)


def _write_graphs(collapsed: D2CSR, folder: Path) -> Mapping[str, str]:
    """Write every graph of a network and return role -> file."""
    writers = {"trunk": write_trunk, "tail": write_tail}
    if collapsed.config.tail_border == "each":
        writers |= {
            "tail": write_inner_tail,
            "border_tail": write_border_tail,
            "fusion": write_fusion,
        }
    for role, write in writers.items():
        write(collapsed, folder / f"{role}.onnx")
    return {role: f"{role}.onnx" for role in writers}
