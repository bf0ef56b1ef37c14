"""The program of a worker: jobs that run a model on a backend, or the chains of a library."""

import time
from pathlib import Path

import numpy as np

from d2csr.core.bundle import read_bundle
from d2csr.core.hardware import peak_rss_bytes, reset_peak_rss, rss_bytes
from d2csr.engine import open_engine
from d2csr.engine.backends.base import Precision
from d2csr.images.reader import read_rgb8
from d2csr.speed import peak_flops
from d2csr.speed.worker import Handler, Values, serve


def prepare(job: Values) -> Handler:
    """Return the handler of requests for a job; its key `job` is `engine` or `ceiling`."""
    return {"engine": _engine, "ceiling": _ceiling}[job.pop("job")](**job)


def _engine(*, bundle: str, backend: str, precision: Precision) -> Handler:
    """Return the handler for a model: time of a run, peak memory, and SR of an image."""
    engine = open_engine(
        read_bundle(Path(bundle)), backend=backend, device="cpu", precision=precision
    )
    reset_peak_rss()
    idle = rss_bytes()

    def run(*, height: int, width: int) -> Values:
        """Return the seconds that upscaling noise of this size takes, elapsed and of all cores."""
        lr01 = np.random.default_rng(0).random((height, width, 3), np.float32)
        started, cpu_started = time.perf_counter(), time.process_time()
        for _strip in engine.iter_strips(lr01):
            pass  # where a writer would take the strip
        elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu_started
        return {"seconds": elapsed, "cpu_seconds": cpu}

    def memory() -> Values:
        """Return the peak memory above that of the loaded, idle process."""
        peak = peak_rss_bytes()
        return {"bytes": None if peak is None or idle is None else peak - idle}

    def upscale(*, image: str, save: str) -> Values:
        """Write SR as raw float32, strip by strip, and return its shape."""
        lr01 = read_rgb8(Path(image)).astype(np.float32) / np.float32(255)
        height = 0
        with Path(save).open("wb") as file:
            for strip in engine.iter_strips(lr01):
                file.write(np.ascontiguousarray(strip.output.sr).data)
                height += strip.output.sr.shape[0]
        scale = engine.bundle.card.scale
        return {"shape": [height, scale * lr01.shape[1], 3]}

    commands = {"run": run, "memory": memory, "upscale": upscale}
    return lambda request: commands[request.pop("command")](**request)


def _ceiling(*, library: str) -> Handler:
    """Return the handler for a library: GFLOP/s of a shape in a precision, or None."""
    return lambda request: {"gflops_per_s": peak_flops.measure(library, **request)}


if __name__ == "__main__":
    serve(prepare)
