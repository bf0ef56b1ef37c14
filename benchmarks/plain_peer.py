"""How accurate the peers' plain network is, trained on the pairs of the model it stands beside.

The network of `upscale_speed.py --cases peers`, same parameters as city100-nikon-x3, same train
scenes; the average with the best val figure is tested. About an hour on one core. Writes the
images into `build/plain_peer` and a dated JSON file into `results`.

    D2CSR_DATA=DATA python benchmarks/plain_peer.py [--steps 16000] [--threads 2]
"""

import argparse
import json
import math
import os
import sys
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from peers.plain import PEER_MODEL, PlainNet, parameter_count, peer_sizes
from torch import Tensor, nn

from d2csr.core.files import cache_folder, write_atomically
from d2csr.data.pairs import load_pair
from d2csr.data.pixel_cache import cache_path, open_cache
from d2csr.data.sampling import CropLoader, CropSampler
from d2csr.data.sources import open_pairs
from d2csr.evaluation.evaluate import evaluate
from d2csr.images.writer import write_rgb8
from d2csr.metrics.protocols import score
from d2csr.speed.speed_results import read_machine
from d2csr.training.trainer import make_average

RESULTS = Path(__file__).parent / "results"
IMAGES = Path("build/plain_peer")
PAIRS = "city100/nikon_d5500_x3"
PATCH_PX, BATCH, SEED = 48, 8, 1
RATE, WARMUP, FINAL_SHARE, AVERAGE = 1e-3, 200, 0.01, 0.999
VALIDATE_EVERY = 1000

UNSET = "D2CSR_DATA is not set: name the folder that holds city100/ in it"


class Best(NamedTuple):
    """The weights that did best on the val scenes."""

    psnr_db: float
    step: int
    tensors: dict[str, Tensor]


def main() -> None:
    """Train, test, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=16000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    data = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET)) / PAIRS
    network = PlainNet(peer_sizes())
    best = trained(network, data, steps=asked.steps)
    network.load_state_dict(best.tensors)
    enlarge_all(network, data / "test", out=IMAGES)
    results = evaluate((PEER_MODEL, str(IMAGES)), data / "test")
    names = {str(IMAGES): "plain network"}
    values = {
        "date": date.today().isoformat(),
        "machine": read_machine(asked.threads).model_dump(),
        "plain": {**network.sizes._asdict(), "parameters": parameter_count(network)},
        "training": {
            "steps": asked.steps,
            "best_step": best.step,
            "val_psnr_db": best.psnr_db,
            "patch_px": PATCH_PX,
            "batch": BATCH,
            "seed": SEED,
        },
        "protocol": "y",
        "psnr_db": {names.get(row.model, row.model): row.mean.psnr_db for row in results.results},
        "paired": [
            row.model_dump() | {"a": names.get(row.a, row.a), "b": names.get(row.b, row.b)}
            for row in results.paired
        ],
    }
    text = f"{json.dumps(values, indent=1)}\n"
    write_atomically(RESULTS / f"plain_peer-{values['date']}.json", text.encode())
    print(text)


def trained(network: PlainNet, data: Path, *, steps: int) -> Best:
    """Return the average with the best val figure; Adam on L1, warm-up, then half a cosine."""
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    average = make_average(network, AVERAGE)
    ready = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    compiled = torch.compile(ready)
    pairs = open_pairs(data / "train")
    sampler = CropSampler(
        open_cache(pairs, cache_path(pairs, cache_folder())),
        patch_px=PATCH_PX,
        scale=network.sizes.scale,
        batch=BATCH,
        seed=SEED,
    )
    best = Best(-math.inf, 0, {})
    for step, batch in CropLoader(sampler).iter_from(0, until=steps):
        optimizer.param_groups[0]["lr"] = rate_at(step, steps)
        with torch.autocast("cpu", torch.bfloat16):
            sr = compiled(_planes(batch.lr))
        loss = (sr.float() - _planes(batch.hr)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
        if (step + 1) % VALIDATE_EVERY == 0 or step + 1 == steps:
            psnr_db = validated(network, average.module, folder=data / "val")
            print(f"step {step + 1}: loss {float(loss):.5f}, val {psnr_db:.3f} dB", flush=True)
            if psnr_db > best.psnr_db:
                weights = average.module.state_dict()
                tensors = {name: value.clone() for name, value in weights.items()}
                best = Best(psnr_db, step + 1, tensors)
    return best


def rate_at(step: int, steps: int) -> float:
    """Return a step's learning rate."""
    done = max(0.0, (step - WARMUP) / (steps - WARMUP))
    falling = FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * done)) / 2
    return RATE * min(1.0, (step + 1) / WARMUP) * falling


def validated(network: PlainNet, average: nn.Module, *, folder: Path) -> float:
    """Return the mean PSNR of the averaged weights on a folder of pairs."""
    plain = PlainNet(network.sizes).eval()
    plain.load_state_dict(average.state_dict())
    figures = []
    for pair in open_pairs(folder):
        lr, hr = load_pair(pair, scale=network.sizes.scale)
        sr = enlarged(plain, lr)
        figures.append(score(sr, hr, protocol="y", scale=network.sizes.scale).psnr_db)
    return float(np.mean(figures))


def enlarge_all(network: PlainNet, folder: Path, *, out: Path) -> None:
    """Write the SR image of every pair."""
    out.mkdir(parents=True, exist_ok=True)
    for pair in open_pairs(folder):
        lr, _ = load_pair(pair, scale=network.sizes.scale)
        write_rgb8(out / f"{pair.name}.png", enlarged(network, lr))


@torch.inference_mode()
def enlarged(network: PlainNet, lr: np.ndarray) -> np.ndarray:
    """Return the SR of a (h, w, 3) image of bytes, in float32."""
    sr = network(_planes(lr[None]))[0].clamp(0, 1) * 255
    return sr.round().byte().permute(1, 2, 0).numpy()


def _planes(images: np.ndarray) -> Tensor:
    """Return (b, h, w, 3) bytes as (b, 3, h, w) in 0..1, channels last."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


if __name__ == "__main__":
    main()
