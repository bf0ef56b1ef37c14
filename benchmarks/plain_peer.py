"""Accuracy of the plain network of the peers, train on the pairs of the shipped model.

This is the network of `upscale_speed.py --cases peers`, with as many parameters as city100-nikon-x3
and the same train scenes; the average of the weights with the best validation PSNR is tested. Takes
about an hour on one core. Writes the images into `build/plain_peer` and a dated JSON file into
`results`.

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
from d2csr.data.sampling import CropLoader, CropSampler, CropSource
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

UNSET = "D2CSR_DATA is not set: set it to the folder that contains city100/"


class Best(NamedTuple):
    """The weights with the best PSNR on the validation scenes."""

    psnr_db: float
    step: int
    tensors: dict[str, Tensor]


def main() -> None:
    """Train, test and store the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=16000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET)) / PAIRS
    network = PlainNet(peer_sizes())
    best = train(network, data, steps=arguments.steps)
    network.load_state_dict(best.tensors)
    upscale_all(network, data / "test", out=IMAGES)
    results = evaluate((PEER_MODEL, str(IMAGES)), data / "test")
    names = {str(IMAGES): "plain network"}
    values = {
        "date": date.today().isoformat(),
        "machine": read_machine(arguments.threads).model_dump(),
        "plain": {**network.sizes._asdict(), "parameters": parameter_count(network)},
        "training": {
            "steps": arguments.steps,
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


def train(network: PlainNet, data: Path, *, steps: int) -> Best:
    """Return the averaged weights with the best validation PSNR; Adam on L1, warm-up and cosine."""
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    average = make_average(network, AVERAGE)
    ready = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    compiled = torch.compile(ready)
    pairs = open_pairs(data / "train")
    sampler = CropSampler(
        [CropSource(open_cache(pairs, cache_path(pairs, cache_folder())))],
        patch_px=PATCH_PX,
        scale=network.sizes.scale,
        batch=BATCH,
        seed=SEED,
    )
    best = Best(-math.inf, 0, {})
    for step, batch in CropLoader(sampler).iter_from(0, until=steps):
        optimizer.param_groups[0]["lr"] = rate_at(step, steps)
        with torch.autocast("cpu", torch.bfloat16):
            sr = compiled(_to_nchw(batch.lr))
        loss = (sr.float() - _to_nchw(batch.hr)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
        if (step + 1) % VALIDATE_EVERY == 0 or step + 1 == steps:
            psnr_db = validate(network, average.module, folder=data / "val")
            print(f"step {step + 1}: loss {float(loss):.5f}, val {psnr_db:.3f} dB", flush=True)
            if psnr_db > best.psnr_db:
                weights = average.module.state_dict()
                tensors = {name: value.clone() for name, value in weights.items()}
                best = Best(psnr_db, step + 1, tensors)
    return best


def rate_at(step: int, steps: int) -> float:
    """Return the learning rate of a step."""
    done = max(0.0, (step - WARMUP) / (steps - WARMUP))
    falling = FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * done)) / 2
    return RATE * min(1.0, (step + 1) / WARMUP) * falling


def validate(network: PlainNet, average: nn.Module, *, folder: Path) -> float:
    """Return the mean PSNR of the averaged weights on a folder of pairs."""
    plain = PlainNet(network.sizes).eval()
    plain.load_state_dict(average.state_dict())
    psnr_db = []
    for pair in open_pairs(folder):
        lr, hr = load_pair(pair, scale=network.sizes.scale)
        sr = upscale(plain, lr)
        psnr_db.append(score(sr, hr, protocol="y", scale=network.sizes.scale).psnr_db)
    return float(np.mean(psnr_db))


def upscale_all(network: PlainNet, folder: Path, *, out: Path) -> None:
    """Write the SR image of every pair."""
    out.mkdir(parents=True, exist_ok=True)
    for pair in open_pairs(folder):
        lr, _ = load_pair(pair, scale=network.sizes.scale)
        write_rgb8(out / f"{pair.name}.png", upscale(network, lr))


@torch.inference_mode()
def upscale(network: PlainNet, lr: np.ndarray) -> np.ndarray:
    """Return the 8-bit SR of an 8-bit image (h, w, 3), computed in float32."""
    sr = network(_to_nchw(lr[None]))[0].clamp(0, 1) * 255
    return sr.round().byte().permute(1, 2, 0).numpy()


def _to_nchw(images: np.ndarray) -> Tensor:
    """Return 8-bit images (b, h, w, 3) as (b, 3, h, w) in 0..1, channels last."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


if __name__ == "__main__":
    main()
