"""The readme of a bundle: its card in words, for people who open the folder."""

from collections.abc import Iterator

from d2csr.core.bundle import BundleCard, Figure

README_NAME = "README.md"


def readme(card: BundleCard) -> str:
    """Return the card as Markdown: what the model is for, what it was made from, what it scores."""
    lines = [f"# {card.name}", ""]
    lines += [card.facts.description, ""] if card.facts.description else []
    lines += [f"- {topic}: {text}" for topic, text in _rows(card)]
    lines += ["", *_table(card.facts.figures)] if card.facts.figures else []
    return "\n".join(lines) + "\n"


def _rows(card: BundleCard) -> Iterator[tuple[str, str]]:
    facts, config = card.facts, card.config
    yield "scale", f"x{card.scale}"
    yield "licence of the weights", facts.licence
    yield "trained on", facts.data
    known = {"steps": facts.steps, "seed": facts.seed, "machine": facts.machine}
    yield from ((topic, str(value)) for topic, value in known.items() if value is not None)
    sizes = f"{config.leaves} predictions, {config.channels} channels, {config.groups} groups of "
    yield "network", f"{sizes}{config.blocks} blocks" + (f" ({facts.preset})" * bool(facts.preset))
    yield "parameters as run", f"{card.parameters:,}"
    for precision, loss in card.precisions.items():
        on = f"{loss.pictures} pictures" if loss.pictures else "noise"
        cost = "" if loss.cost_db is None else f"; costs {loss.cost_db:.3f} dB of PSNR"
        yield f"{precision} against fp32", f"{loss.psnr_between_db:.1f} dB on {on}{cost}"
    yield "SHA-256 of model.safetensors", card.files.get("model.safetensors", "")


def _table(figures: tuple[Figure, ...]) -> Iterator[str]:
    yield "| pairs | protocol | pictures | PSNR dB (95%) | SSIM (95%) | bicubic PSNR dB |"
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
