"""Figures for a bundle's card, taken from results."""

from d2csr.core.bundle import Figure
from d2csr.core.results import Results, SystemResult


def card_figures(results: Results, model: str, *, data: str) -> tuple[Figure, ...]:
    """Return one figure a protocol of what a model scored, bicubic beside it.

    Args:
        results: what `evaluate_models` returned.
        model: the model's name there.
        data: the pairs in words, as the card is to call them.
    """
    return tuple(
        Figure(
            data=data,
            protocol=row.protocol,
            images=len(row.images),
            psnr_db=row.mean.psnr_db,
            ssim=row.mean.ssim,
            psnr_db_interval95=row.interval95.psnr_db,
            ssim_interval95=row.interval95.ssim,
            bicubic_psnr_db=_row(results, "bicubic", protocol=row.protocol).mean.psnr_db,
        )
        for row in results.results
        if row.model == model
    )


def _row(results: Results, model: str, *, protocol: str) -> SystemResult:
    """Return a system's row of one protocol."""
    return next(row for row in results.results if (row.model, row.protocol) == (model, protocol))
