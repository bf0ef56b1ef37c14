"""A network written as a bundle: weights, graphs and card in one folder, whole or not at all.

The readme of a bundle: its card in words, for people who open the folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from d2csr.checkpoint.io import save_weights
from d2csr.core.bundle import (
    CARD_NAME,
    WEIGHTS_NAME,
    Bundle,
    EvaluationScore,
    ModelCard,
    ModelMetadata,
    read_bundle,
    write_card,
)
from d2csr.core.config import ModelConfig, find_preset
from d2csr.core.errors import BundleError
from d2csr.core.files import atomic_folder, check_writable, sha256_file, write_atomically
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

README_NAME = "README.md"


def render_readme(card: ModelCard) -> str:
    """Return the card as Markdown: what the model is for, what it was made from, what it scores."""
    lines = [f"# {card.name}", ""]
    lines += [card.metadata.description, ""] if card.metadata.description else []
    lines += [f"- {topic}: {text}" for topic, text in _rows(card)]
    lines += ["", *_table(card.metadata.scores)] if card.metadata.scores else []
    return "\n".join(lines) + "\n"


def _rows(card: ModelCard) -> Iterator[tuple[str, str]]:
    facts, config = card.metadata, card.config
    yield "scale", f"x{card.scale}"
    yield "licence of the weights", facts.licence
    yield "trained on", facts.data
    known = {"steps": facts.steps, "seed": facts.seed, "machine": facts.machine}
    yield from ((topic, str(value)) for topic, value in known.items() if value is not None)
    sizes = f"{config.leaves} predictions, {config.channels} channels, {config.groups} groups of "
    yield "network", f"{sizes}{config.blocks} blocks" + (f" ({facts.preset})" * bool(facts.preset))
    yield "parameters as run", f"{card.parameters:,}"
    for precision, loss in card.precisions.items():
        on = f"{loss.images} images" if loss.images else "noise"
        cost = "" if loss.psnr_loss_db is None else f"; costs {loss.psnr_loss_db:.3f} dB of PSNR"
        yield f"{precision} against fp32", f"{loss.psnr_to_fp32_db:.1f} dB on {on}{cost}"
    yield "SHA-256 of model.safetensors", card.files.get("model.safetensors", "")


def _table(figures: tuple[EvaluationScore, ...]) -> Iterator[str]:
    yield "| pairs | protocol | images | PSNR dB (95%) | SSIM (95%) | bicubic PSNR dB |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for each in figures:
        psnr_low, psnr_high = each.psnr_db_interval95
        ssim_low, ssim_high = each.ssim_interval95
        cells = (
            each.data,
            each.protocol,
            str(each.images),
            f"{each.psnr_db:.2f} ({psnr_low:.2f} - {psnr_high:.2f})",
            f"{each.ssim:.4f} ({ssim_low:.4f} - {ssim_high:.4f})",
            "" if each.bicubic_psnr_db is None else f"{each.bicubic_psnr_db:.2f}",
        )
        yield f"| {' | '.join(cells)} |"


def export_bundle(
    network: D2CSR,
    folder: Path,
    *,
    metadata: ModelMetadata,
    verify_on: Sequence[UInt8[np.ndarray, "_ _ 3"]] = (),
    int8_by: Manifest | None = None,
) -> Bundle:
    """Write a network as a bundle that the engine agrees with, and return it.

    Args:
        network: expanded or collapsed; the bundle keeps the weights as they are, and runs them
            collapsed.
        folder: where the bundle will stand; a bundle already there is replaced at the end.
        card: what the trainer knows; the preset is found by comparing, whatever it says.
        verify_on: real LR images to compare on; none: an image of noise.
        int8_by: pairs with a train split to quantise by and a val split to measure the cost on;
            None: no graphs in int8.

    Raises:
        BundleError: bundle and network differ over the limit, int8 costs too much, or the folder
            holds something else; what stood there then still stands.
        UsageError: int8 can't be made here, or from these pairs.
    """
    _check_place(folder)
    if int8_by is not None:
        check_quantizable(int8_by)
    collapsed = network.collapse().cpu().float()
    with atomic_folder(folder) as beside:
        save_weights(network, beside / WEIGHTS_NAME)
        graphs = _write_graphs(collapsed, beside)
        names = [WEIGHTS_NAME, *graphs.values()]
        filled = ModelCard(
            metadata=replace(metadata, preset=find_preset(network.config)),
            scale=network.config.scale,
            parameters=network_cost(network.config, collapsed=True).parameters,
            config=network.config,
            receptive_field=network.config.receptive_field,
            graphs=graphs,
            files={name: sha256_file(beside / name) for name in names},
        )
        _write_card(beside, filled)
        written = read_bundle(beside)
        verify_against_network(written, network, images=verify_on or [noise_image()])
        if int8_by is not None:
            filled = add_int8(written, pairs=int8_by)
            written = replace(written, card=filled)
        losses = measure_precision_errors(written, images=verify_on)
        if int8_by is not None:
            loss_db = int8_psnr_loss_db(written, pairs=int8_by)
            losses["int8"] = replace(losses["int8"], psnr_loss_db=loss_db)
        _write_card(beside, replace(filled, precisions=losses))
    return read_bundle(folder)


def export_random_bundle(config: ModelConfig, folder: Path) -> Bundle:
    """Write a network with random weights, always the same ones, as a bundle and return it."""
    torch.manual_seed(0)
    metadata = ModelMetadata(name="random", licence="none", data="none: random weights")
    return export_bundle(D2CSR(config).eval(), folder, metadata=metadata)


def update_scores(folder: Path, figures: Sequence[EvaluationScore]) -> Bundle:
    """Write what a model scores on its card and return the bundle; weights and graphs stay."""
    card = read_bundle(folder).card
    _write_card(folder, replace(card, metadata=replace(card.metadata, scores=tuple(figures))))
    return read_bundle(folder)


def _write_graphs(collapsed: D2CSR, folder: Path) -> Mapping[str, str]:
    """Write every graph the model needs; return role -> file."""
    write_trunk(collapsed, folder / "trunk.onnx")
    graphs = {"trunk": "trunk.onnx", "tail": "tail.onnx"}
    if collapsed.config.tail_border == "features":
        write_tail(collapsed, folder / "tail.onnx")
        return graphs
    write_inner_tail(collapsed, folder / "tail.onnx")
    write_border_tail(collapsed, folder / "border_tail.onnx")
    write_fusion(collapsed, folder / "fusion.onnx")
    return {**graphs, "border_tail": "border_tail.onnx", "fusion": "fusion.onnx"}


def _write_card(folder: Path, card: ModelCard) -> None:
    write_atomically(folder / README_NAME, render_readme(card).encode())
    write_card(folder, card)


def _check_place(folder: Path) -> None:
    """Refuse to replace anything but a bundle, and a place where nothing can be written."""
    check_writable(folder, folder=True)
    taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken and not (folder / CARD_NAME).is_file():
        problem = "exists and is no bundle"
        raise BundleError(folder, problem, remedy="Choose a new or an empty folder.")
