"""Command `models`: what ships with the package."""

from collections.abc import Iterator

from d2csr.core.bundle import ModelCard


def models() -> int:
    """List the models that ship with the package: scale, size, licence, figures."""
    from d2csr.engine.model import shipped_bundles

    bundles = shipped_bundles()
    if not bundles:
        print("no models ship with this installation")
    for bundle in bundles:
        print("\n".join(_lines(bundle.card)))
    return 0


def _lines(card: ModelCard) -> Iterator[str]:
    size = f"{card.parameters / 1e6:.2f}M parameters"
    yield f"{card.name}  x{card.scale}  {size}  licence {card.metadata.licence}"
    yield from [f"  {card.metadata.description}"] if card.metadata.description else []
    yield f"  trained on {card.metadata.data}"
    for figure in card.metadata.scores:
        low, high = figure.psnr_db_interval95
        beside = figure.bicubic_psnr_db
        yield (
            f"  {figure.data}, protocol {figure.protocol}: {figure.psnr_db:.2f} dB "
            f"({low:.2f} - {high:.2f}), SSIM {figure.ssim:.4f}, {figure.images} images"
            + (f"; bicubic {beside:.2f} dB" if beside is not None else "")
        )
