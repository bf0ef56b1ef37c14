"""Whether SR is better resampled in linear light or as stored, measured on City100's test images.

The model's SR and the HR photograph are brought to the wanted size, each both ways: with sRGB's
curve on the values, and with light that adds up. The reference at that size is HR brought there, so
its own way is a choice too; the table has all four. What is kept is the way that loses least where
it is the wrong one, and doesn't win merely because the reference went the same way.

    D2CSR_DATA=DATA python benchmarks/outscale.py
"""

import argparse
import json
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import d2csr
from d2csr.core.files import write_atomically
from d2csr.core.geometry import Size
from d2csr.images.reader import read_rgb8
from d2csr.images.resize import resample_rows

RESULTS = Path(__file__).parent / "results"
CASES = (
    ("city100-nikon-x3", "nikon_d5500_x3", (2.0, 1.5)),
    ("city100-iphone-x2", "iphone_x_x2", (1.5, 1.25)),
)
Pixels = np.ndarray[Any, np.dtype[np.float32]]
WAYS = ("stored", "linear")


def main() -> None:
    """Measure every model and factor, and write a dated JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("D2CSR_DATA"), help="holds city100/")
    data = Path(parser.parse_args().data) / "city100"
    rows = [
        {"model": model, "outscale": outscale, **measure(model, data / folder, outscale=outscale)}
        for model, folder, outscales in CASES
        for outscale in outscales
    ]
    for row in rows:
        print(json.dumps(row))
    found = {"date": date.today().isoformat(), "cases": rows}
    path = RESULTS / f"outscale-{found['date']}.json"
    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())


def measure(name: str, folder: Path, *, outscale: float) -> dict[str, Any]:
    """Return mean PSNR in dB: way of SR -> way of the reference -> dB."""
    model = d2csr.load(name)
    psnrs: dict[str, dict[str, list[float]]] = {way: {other: [] for other in WAYS} for way in WAYS}
    for path in sorted((folder / "test").glob(f"*_LR{model.scale}.webp")):
        lr = read_rgb8(path)
        hr = read_rgb8(path.with_name(path.name.replace(f"LR{model.scale}", "HR")))
        size = Size(round(lr.shape[1] * outscale), round(lr.shape[0] * outscale))
        lr01 = lr.astype(np.float32) / np.float32(255)
        sr01 = np.concatenate([strip.output.sr for strip in model.engine.iter_strips(lr01)])
        hr01 = hr.astype(np.float32) / np.float32(255)
        made = {way: brought(sr01, size, way=way) for way in WAYS}
        wanted = {way: brought(hr01, size, way=way) for way in WAYS}
        for way in WAYS:
            for other in WAYS:
                psnrs[way][other].append(psnr_db(made[way], wanted[other]))
    images = len(psnrs["stored"]["stored"])
    means = {
        f"sr_{way}": {f"reference_{other}": float(np.mean(psnrs[way][other])) for other in WAYS}
        for way in WAYS
    }
    return {"images": images, "psnr_db": means}


def brought(image01: Pixels, size: Size, *, way: str) -> Pixels:
    """Return an image at another size, resampled as stored or in linear light."""
    to: Callable[[Pixels], Pixels] = linear if way == "linear" else np.asarray
    back: Callable[[Pixels], Pixels] = stored if way == "linear" else np.asarray
    own = Size(image01.shape[1], image01.shape[0])
    (rows,) = resample_rows([to(image01)], size=own, target=size)
    return back(rows)


def linear(stored01: Pixels) -> Pixels:
    """Return light of sRGB values (IEC 61966-2-1)."""
    values = stored01.clip(0, 1)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def stored(linear01: Pixels) -> Pixels:
    """Return sRGB values of light (IEC 61966-2-1)."""
    values = linear01.clip(0, 1)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def psnr_db(one: Pixels, other: Pixels, *, border_px: int = 4) -> float:
    """Return PSNR over RGB as 8 bit, borders cut."""
    values = [np.rint(each.clip(0, 1) * 255)[border_px:-border_px] for each in (one, other)]
    error = (values[0] - values[1])[:, border_px:-border_px].astype(np.float64)
    return float(10 * np.log10(255**2 / np.mean(error**2)))


if __name__ == "__main__":
    main()
