"""PSNR, SSIM, shifts and ranks as literal loops; imports nothing of the package."""

import cmath
import math

import numpy as np


def gaussian_11() -> list[float]:
    weights = [math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)]
    return [weight / sum(weights) for weight in weights]


def psnr_cut(first: np.ndarray, second: np.ndarray, *, cut_px: int, peak: float) -> float:
    """PSNR of one plane, `cut_px` rows and columns cut from each side."""
    height, width = first.shape
    total, count = 0.0, 0
    for y in range(cut_px, height - cut_px):
        for x in range(cut_px, width - cut_px):
            total += (first[y, x] - second[y, x]) ** 2
            count += 1
    return 10 * math.log10(peak**2 / (total / count))


def ssim_zero_padded(first: np.ndarray, second: np.ndarray, *, peak: float) -> float:
    """SSIM of one plane, 11x11 Gaussian, outside is zero, mean over every pixel."""
    weights = gaussian_11()
    height, width = first.shape
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    total = 0.0
    for y in range(height):
        for x in range(width):
            m1 = m2 = s11 = s22 = s12 = 0.0
            for i in range(11):
                for j in range(11):
                    v, u = y + i - 5, x + j - 5
                    if 0 <= v < height and 0 <= u < width:
                        weight = weights[i] * weights[j]
                        a, b = float(first[v, u]), float(second[v, u])
                        m1, m2 = m1 + weight * a, m2 + weight * b
                        s11, s22 = s11 + weight * a * a, s22 + weight * b * b
                        s12 += weight * a * b
            top = (2 * m1 * m2 + c1) * (2 * (s12 - m1 * m2) + c2)
            total += top / ((m1**2 + m2**2 + c1) * (s11 - m1**2 + s22 - m2**2 + c2))
    return total / (height * width)


def weighted_sum(image: np.ndarray, shares: tuple[float, float, float]) -> np.ndarray:
    """One plane out of three, pixel by pixel."""
    plane = np.zeros(image.shape[:2])
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            plane[y, x] = sum(shares[c] * float(image[y, x, c]) for c in range(3))
    return plane


def shift_row(row: list[float], shift_px: float) -> list[float]:
    """One row moved to the right by a fraction of a pixel, by the sum of its Fourier terms."""
    n = len(row)
    out = []
    for x in range(n):
        total = 0j
        for k in range(n):
            frequency = k if k <= n / 2 else k - n
            term = sum(row[i] * cmath.exp(-2j * math.pi * k * i / n) for i in range(n))
            if 2 * k == n:
                wave = math.cos(math.pi * shift_px) * cmath.exp(1j * math.pi * x)
            else:
                wave = cmath.exp(2j * math.pi * frequency * (x - shift_px) / n)
            total += term * wave
        out.append(total.real / n)
    return out


def linear_normal_least_squares(
    pairs: list[tuple[np.ndarray, np.ndarray]], *, scale: int, phase: tuple[int, int]
) -> np.ndarray:
    """Weights of one phase's 13x13 filter and its constant, from one big system of equations."""
    rows, wanted = [], []
    for lr, hr in pairs:
        height, width = lr.shape[:2]
        for c in range(3):
            for y in range(height):
                for x in range(width):
                    row = []
                    for i in range(-6, 7):
                        for j in range(-6, 7):
                            v, u = abs(y + i), abs(x + j)  # reflected, edge pixel not doubled
                            v = v if v < height else 2 * (height - 1) - v
                            u = u if u < width else 2 * (width - 1) - u
                            row.append(lr[v, u, c] / 255)
                    rows.append([*row, 1.0])
                    wanted.append(hr[scale * y + phase[0], scale * x + phase[1], c] / 255)
    return np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0]
