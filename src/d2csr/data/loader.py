"""The loader: crops of the coming steps, prepared while the current one is trained on."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final

from d2csr.data.crops import CropBatch, CropSampler


@final
class Loader:
    """Hands out the batches of successive steps; which ones depends on the step alone."""

    def __init__(
        self,
        sampler: CropSampler,
        *,
        workers: int = 1,
        prefetch: int = 4,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Keep what to load.

        Args:
            sampler: draws the crops.
            workers: background threads.
            prefetch: steps prepared ahead, at least 1.
            rank: which share of each batch, 0..world-1.
            world: how many processes share a batch.
        """
        self.sampler, self.workers, self.prefetch = sampler, workers, max(prefetch, 1)
        self.rank, self.world = rank, world

    def starting_at(self, step: int) -> Generator[tuple[int, CropBatch], None, None]:
        """Yield (step, batch) from a step on, without end; closing it ends the threads."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="crops")
        coming: deque[tuple[int, Future[CropBatch]]] = deque()
        try:
            while True:
                while len(coming) < self.prefetch:
                    ahead = step + len(coming)
                    coming.append((ahead, pool.submit(self._load, ahead)))
                ready, batch = coming.popleft()
                yield ready, batch.result()
                step = ready + 1
        finally:
            pool.shutdown(cancel_futures=True)

    def _load(self, step: int) -> CropBatch:
        return self.sampler.batch(step, rank=self.rank, world=self.world)
