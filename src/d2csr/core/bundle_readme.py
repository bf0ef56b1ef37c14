"""The card and the readme of a bundle, written together, and the check of a bundle's folder."""

from collections.abc import Iterator
from pathlib import Path

from d2csr.core.bundle import (
    CARD_NAME,
    WEIGHTS_NAME,
    ErrorModelFacts,
    EvaluationScore,
    ModelCard,
    TrainingRun,
    write_card,
)
from d2csr.core.config import ModelConfig
from d2csr.core.errors import BundleError
from d2csr.core.files import check_writable, write_atomically
from d2csr.core.system_config import SystemConfig

README_NAME = "README.md"


def render_readme(card: ModelCard) -> str:
    """Return the card as Markdown: purpose, size, scores and training of the model."""
    metadata = card.metadata
    lines = [f"# {card.name}", ""]
    lines += [metadata.description, ""] if metadata.description else []
    lines += [f"- {topic}: {text}" for topic, text in _rows(card)]
    lines += ["", *_score_table(metadata.scores)] if metadata.scores else []
    lines += ["", *_run_table(metadata.runs)] if metadata.runs else []
    return "\n".join(lines) + "\n"


def _rows(card: ModelCard) -> Iterator[tuple[str, str]]:
    metadata, config = card.metadata, card.config
    yield "scale", f"x{card.scale}"
    yield "licence of the weights", metadata.licence
    yield "trained on", metadata.data
    known = {"steps": metadata.steps, "seed": metadata.seed, "machine": metadata.machine}
    yield from ((topic, str(value)) for topic, value in known.items() if value is not None)
    name = f" ({metadata.preset})" if metadata.preset else ""
    yield "network", f"{describe_config(config)}{name}"
    if isinstance(config, SystemConfig):
        yield "operations per LR megapixel", f"{config.gflop_per_lr_mp:,.1f} GFLOP"
    yield "parameters at inference", f"{card.parameters:,}"
    for precision, error in card.precisions.items():
        images = f"{error.images} images" if error.images else "noise"
        loss = ""
        if error.psnr_loss_db is not None:
            loss = f"; loses {error.psnr_loss_db:.3f} dB of PSNR"
        yield f"{precision} against fp32", f"{error.psnr_to_fp32_db:.1f} dB on {images}{loss}"
    if card.uncertainty is not None:
        yield "error prediction", describe_error_model(card.uncertainty)
    yield f"SHA-256 of {WEIGHTS_NAME}", card.files.get(WEIGHTS_NAME, "")


def describe_error_model(facts: ErrorModelFacts) -> str:
    """Return the facts about an error model in one sentence."""
    order = sorted(facts.spearman.items(), key=lambda row: -row[1])
    ranks = ", ".join(f"{predictor} {value:.3f}" for predictor, value in order)
    return (
        f"fitted on {facts.data}, {facts.images} images; rank correlation with the error of 6x6 "
        f"blocks, {facts.left_out} left out in turn: {ranks}"
    )


def describe_config(config: ModelConfig | SystemConfig) -> str:
    """Return the sizes of a network in words, of a compared system with its receptive field."""
    if not isinstance(config, SystemConfig):
        return f"{_sizes(config)}{_choices(config)}"
    sizes = ", ".join(f"{name} {value}" for name, value in config.sizes.items())
    reach = config.receptive_field_lr_px
    seen = "the whole image" if reach is None else f"{reach} LR pixels to each side"
    return f"{config.system}: {sizes}; an SR pixel depends on {seen}"


def _sizes(config: ModelConfig) -> str:
    sizes = f"{config.leaves} predictions, {config.channels} channels"
    if not config.groups:
        return sizes
    return f"{sizes}, {config.groups} groups of {config.blocks} blocks"


def _choices(config: ModelConfig) -> str:
    """Return the choices that most networks don't have, in words."""
    choices = ""
    if config.trunk_groups:
        groups = "group" if config.trunk_groups == 1 else "groups"
        choices += f", {config.trunk_groups} shared {groups} of {config.blocks} blocks"
    if not config.attention:
        choices += ", no channel attention"
    if not config.has_convergence:
        choices += ", SR their plain mean"
    if config.convergence_grid == "lr":
        choices += ", weights computed on the LR grid"
    return choices


def _score_table(scores: tuple[EvaluationScore, ...]) -> Iterator[str]:
    yield "| pairs | protocol | images | PSNR dB (95%) | SSIM (95%) | bicubic PSNR dB |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for each in scores:
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


def _run_table(runs: tuple[TrainingRun, ...]) -> Iterator[str]:
    """Yield the trainings, in order, with their validation curves."""
    yield "| training | steps | minutes | validation: step, PSNR dB |"
    yield "| --- | --- | --- | --- |"
    for run in runs:
        curve = "; ".join(f"{step:,} {psnr_db:.2f}" for step, psnr_db in run.curve)
        yield f"| {run.name} | {run.steps:,} | {run.seconds / 60:.0f} | {curve} |"


def write_card_and_readme(folder: Path, card: ModelCard) -> None:
    """Write `bundle.json` and the readme into a bundle's folder."""
    write_atomically(folder / README_NAME, render_readme(card).encode())
    write_card(folder, card)


def check_bundle_folder(folder: Path) -> None:
    """Raise an error if the folder can't be written, or holds anything but a bundle."""
    check_writable(folder, folder=True)
    is_taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if is_taken and not (folder / CARD_NAME).is_file():
        problem = "exists and is not a bundle"
        raise BundleError(folder, problem, remedy="Choose a new or an empty folder.")
