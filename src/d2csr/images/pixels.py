"""Values of pixels: rounding to 8 bit, which every room does alike.

Separate because metrics, engine and align need it without libvips.
"""

import numpy as np
from jaxtyping import Float, UInt8, UInt16


def to_uint8(
    pixels: UInt8[np.ndarray, "*n"] | UInt16[np.ndarray, "*n"] | Float[np.ndarray, "*n"],
) -> UInt8[np.ndarray, "*n"]:
    """Return pixels as the nearest 8-bit values.

    Args:
        pixels: 8 bit, which is returned as it is; 16 bit, whose 65535 becomes 255; or floats, which
            are clipped to 0..1 and rounded in their own precision, halves to even.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 257 * 255
    scaled = np.rint(pixels * pixels.dtype.type(255))
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)
