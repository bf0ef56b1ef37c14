"""Many scenes taken at once: errors told before work, a folder written whole or not at all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from d2csr.core.console import track
from d2csr.core.errors import D2csrError, DataError, UsageError
from d2csr.core.files import atomic_folder, check_writable
from d2csr.core.manifest import MANIFEST_NAME, Manifest, Pair, assign_splits, write_manifest
from d2csr.core.parallel import map_in_processes
from d2csr.images.reader import read_size
from d2csr.simulate.camera_config import Camera
from d2csr.simulate.ground_truth import TRUTH_NAME, GroundTruth, write_truth
from d2csr.simulate.outputs import SceneJob, make_capture, make_pair
from d2csr.simulate.photographs import LEAST_PX
from d2csr.simulate.scene import Photo, Source

Result = TypeVar("Result")


@dataclass(frozen=True)
class SimulationOptions:
    """What is to be made of every scene.

    Attributes:
        scale: tele focal length by wide focal length.
        camera: what the images are taken with.
        seed: decides every draw, together with a scene's place among the sources.
        captures: whole frames with EXIF and their truth, instead of training pairs.
        shots: how often each scene is taken, every time with other draws.
        val: share of the scenes that go to the split `val`.
        test: share that goes to `test`.
        licence: what the manifest says of the photos.
        jobs: processes.
    """

    scale: int
    camera: Camera = field(default_factory=Camera)
    seed: int = 0
    captures: bool = False
    shots: int = 1
    val: float = 0.1
    test: float = 0.1
    licence: str = ""
    jobs: int = 1


def simulate(sources: Sequence[Source], out: Path, *, job: SimulationOptions) -> int:
    """Take every scene and write the images into a new folder; return how many couples.

    Raises:
        D2csrError: a source can't be read or is too small, the folder isn't free; all of them
            that can be told beforehand are, and nothing is written.
    """
    _refuse(sources, out, job=job)
    orders = _orders(sources, job)
    with atomic_folder(out) as folder:
        if job.captures:
            truths: list[GroundTruth] = _map_with_progress(
                partial(make_capture, folder=folder), orders, workers=job.jobs
            )
            write_truth(tuple(truths), folder / TRUTH_NAME)
        else:
            pairs: list[Pair] = _map_with_progress(
                partial(make_pair, folder=folder), orders, workers=job.jobs
            )
            manifest = Manifest(job.scale, job.licence, tuple(pairs), folder)
            write_manifest(manifest, folder / MANIFEST_NAME)
    return len(orders)


def _orders(sources: Sequence[Source], job: SimulationOptions) -> list[SceneJob]:
    splits = draw_splits(len(sources), val=job.val, test=job.test, seed=job.seed)
    numbers = range(len(sources) * job.shots)
    digits = max(3, len(str(len(numbers))))
    model = "" if job.captures else f"{job.camera.exif.model}_"
    return [
        SceneJob(
            source=sources[number // job.shots],
            name=f"{model}{number + 1:0{digits}}",
            split=splits[number // job.shots],
            scale=job.scale,
            camera=job.camera,
            seed=(job.seed, *divmod(number, job.shots)),
            number=number,
        )
        for number in numbers
    ]


def draw_splits(scenes: int, *, val: float, test: float, seed: int) -> list[str]:
    """Return the split of each scene, drawn by the seed; shares are rounded to whole scenes."""
    shuffled = np.random.default_rng((seed, 1)).permutation(scenes).tolist()
    splits = assign_splits(shuffled, val=val, test=test)
    return [splits[scene] for scene in range(scenes)]


def _refuse(sources: Sequence[Source], out: Path, *, job: SimulationOptions) -> None:
    """Tell all that stands against the work before it begins."""
    if job.scale < 2:
        raise UsageError("scale", f"{job.scale} enlarges nothing", remedy="Choose 2 or more.")
    if job.val + job.test > 1:
        remedy = "Choose shares that leave some for training."
        raise UsageError("splits", "val and test take more than all scenes", remedy=remedy)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        problem = "exists already, and would be replaced"
        raise UsageError(out, problem, remedy="Choose a new folder, or remove this one.")
    check_writable(out, folder=True)
    errors = [str(error) for source in sources for error in _source_errors(source, job)]
    if errors:
        problem = "\n  ".join([f"{len(errors)} can't be used, nothing was written", *errors])
        remedy = "Mend or remove these photos."
        raise DataError("photos", problem.removesuffix("."), remedy=remedy)


def _source_errors(source: Source, job: SimulationOptions) -> Iterator[D2csrError]:
    """Yield what a photo's header tells against it."""
    try:
        size = read_size(source.path) if isinstance(source, Photo) else source.size
    except D2csrError as error:
        yield error
        return
    scene = job.camera.scene
    fields = scene.wide_fields if job.captures else 1.0
    least = LEAST_PX * job.scale * scene.px_per_tele_px[1] * max(1.0, fields / job.scale)
    if min(size) < least:
        problem = f"is {size} px; scale {job.scale} needs {least:.0f} px on each side"
        remedy = "Take a larger photo or a smaller scale."
        yield DataError(source.name, problem, remedy=remedy)


def _map_with_progress(
    function: Callable[[SceneJob], Result], jobs: Sequence[SceneJob], *, workers: int
) -> list[Result]:
    """Return the function's result for each job, in order."""
    results = map_in_processes(
        function, jobs, workers=workers, initializer=partial(cv2.setNumThreads, 1)
    )
    shown = track(results, description="Rendering scenes", total=len(jobs))
    return [result for _, result in sorted(shown, key=itemgetter(0))]
