"""Figures for a model's card, taken from the results of an evaluation."""

from d2csr.core.bundle import Figure
from d2csr.core.results import Results

_BICUBIC = "bicubic"


def card_figures(results: Results, *, model: str, data: str) -> tuple[Figure, ...]:
    """Return what a model's card says of it: a figure per protocol, bicubic's beside.

    Args:
        results: an evaluation that the model was part of.
        model: its name there.
        data: the pairs, in words, for people far from this machine.
    """
    bicubic = {row.protocol: row.mean.psnr_db for row in results.results if row.model == _BICUBIC}
    return tuple(
        Figure(
            data=data,
            protocol=row.protocol,
            images=len(row.images),
            psnr_db=row.mean.psnr_db,
            ssim=row.mean.ssim,
            psnr_db_interval95=row.interval95.psnr_db,
            ssim_interval95=row.interval95.ssim,
            bicubic_psnr_db=bicubic.get(row.protocol),
        )
        for row in results.results
        if row.model == model
    )
