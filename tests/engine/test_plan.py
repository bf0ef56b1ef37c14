"""Row bands: they cover the picture once, and read what they need where there is something."""

from hypothesis import given
from hypothesis import strategies as st

from d2csr.engine.plan import default_band_rows, plan_bands


@given(st.integers(1, 300), st.integers(1, 80), st.integers(0, 6))
def test_bands_cover_every_row_once_and_read_their_halo(height, band_rows, halo_rows):
    bands = plan_bands(height, band_rows=band_rows, halo_rows=halo_rows)
    assert [row for band in bands for row in range(band.first, band.last)] == list(range(height))
    for band in bands:
        assert band.top == max(0, band.first - halo_rows)
        assert band.bottom == min(height, band.last + halo_rows)


def test_a_band_is_64_rows_of_sr_at_every_scale():
    assert [scale * default_band_rows(scale) for scale in (2, 3, 4, 8)] == [64, 63, 64, 64]
