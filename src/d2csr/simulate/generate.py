"""Simulation of many scenes: checks before any work, then one folder written completely or not."""

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
from d2csr.core.manifest import MANIFEST_NAME, Manifest, assign_splits, write_manifest
from d2csr.core.parallel import map_in_processes
from d2csr.images.reader import read_size
from d2csr.simulate.camera_config import CameraConfig
from d2csr.simulate.ground_truth import TRUTH_NAME, write_truth
from d2csr.simulate.outputs import SceneJob, kind_name, make_capture, make_pair
from d2csr.simulate.photographs import MIN_FRAME_PX
from d2csr.simulate.presets import Kind, Mixture
from d2csr.simulate.scene import Photo, Source
from d2csr.simulate.web import WebConfig

Result = TypeVar("Result")


@dataclass(frozen=True)
class SimulationOptions:
    """What to make of every scene.

    Attributes:
        scale: tele focal length divided by wide focal length.
        camera: that takes the photographs.
        mixture: kinds of pairs, of which each pair draws one, instead of the camera.
        seed: determines every random value, together with a scene's index among the sources.
        captures: write whole frames with EXIF and ground truth, instead of training pairs.
        shots: photographs of each scene, each with new random values.
        val: share of the scenes in the split `val`.
        test: share of the scenes in the split `test`.
        licence: of the photos, for the manifest.
        workers: processes.
    """

    scale: int
    camera: CameraConfig = field(default_factory=CameraConfig)
    seed: int = 0
    captures: bool = False
    shots: int = 1
    val: float = 0.1
    test: float = 0.1
    licence: str = ""
    workers: int = 1
    mixture: Mixture = ()

    @property
    def kinds(self) -> Mixture:
        """Return the kinds of pairs with their shares."""
        return self.mixture or ((1.0, self.camera),)


def simulate(sources: Sequence[Source], output: Path, *, options: SimulationOptions) -> int:
    """Photograph every scene into a new folder, and return the number of pairs or captures.

    Raises:
        D2csrError: a source can't be read or is too small, or the folder isn't empty. All errors
            that can be found beforehand are reported together, and nothing is written.
    """
    _check(sources, output, options=options)
    jobs = _plan_jobs(sources, options)
    with atomic_folder(output) as folder:
        if options.captures:
            make = partial(make_capture, folder=folder)
            truths = _map_with_progress(make, jobs, workers=options.workers)
            write_truth(tuple(truths), folder / TRUTH_NAME)
        else:
            make = partial(make_pair, folder=folder)
            pairs = _map_with_progress(make, jobs, workers=options.workers)
            manifest = Manifest(options.scale, options.licence, tuple(pairs), folder)
            write_manifest(manifest, folder / MANIFEST_NAME)
    return len(jobs)


def draw_splits(scenes: int, *, val: float, test: float, seed: int) -> list[str]:
    """Return the split of each scene, drawn by the seed; shares are rounded to whole scenes."""
    shuffled = np.random.default_rng((seed, 1)).permutation(scenes).tolist()
    splits = assign_splits(shuffled, val=val, test=test)
    return [splits[scene] for scene in range(scenes)]


def _plan_jobs(sources: Sequence[Source], options: SimulationOptions) -> list[SceneJob]:
    splits = draw_splits(len(sources), val=options.val, test=options.test, seed=options.seed)
    indices = range(len(sources) * options.shots)
    digits = max(3, len(str(len(indices))))
    jobs: list[SceneJob] = []
    for index in indices:
        seed = (options.seed, *divmod(index, options.shots))
        kind = _draw_kind(options.kinds, seed)
        prefix = "" if options.captures else f"{kind_name(kind)}_"
        jobs.append(
            SceneJob(
                source=sources[index // options.shots],
                name=f"{prefix}{index + 1:0{digits}}",
                split=splits[index // options.shots],
                scale=options.scale,
                kind=kind,
                seed=seed,
                index=index,
            )
        )
    return jobs


def _draw_kind(kinds: Mixture, seed: tuple[int, ...]) -> Kind:
    """Return one of the kinds, drawn by its share."""
    shares = np.array([share for share, _ in kinds])
    rng = np.random.default_rng((*seed, 6))
    return kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))][1]


def _check(sources: Sequence[Source], output: Path, *, options: SimulationOptions) -> None:
    """Check options, output folder and sources before any work."""
    if options.scale < 2:
        raise UsageError("--scale", f"{options.scale} enlarges nothing", "Choose 2 or more.")
    if options.captures and options.mixture:
        problem = "makes pairs, not captures"
        raise UsageError("--preset", problem, "Remove --captures, or give a camera with --config.")
    if options.val + options.test > 1:
        problem = "together take more than all scenes"
        raise UsageError("--val and --test", problem, "Leave some scenes for training.")
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        problem = "exists already, and would be replaced"
        raise UsageError(output, problem, "Choose a new folder, or remove this one.")
    check_writable(output, folder=True)
    errors = [str(error) for source in sources for error in _source_errors(source, options)]
    if errors:
        problem = "\n  ".join([f"{len(errors)} can't be used, nothing was written", *errors])
        raise DataError("photos", problem.removesuffix("."), "Replace or remove these photos.")


def _source_errors(source: Source, options: SimulationOptions) -> Iterator[D2csrError]:
    """Yield the errors that a photo's header reveals."""
    try:
        size = read_size(source.path) if isinstance(source, Photo) else source.size
    except D2csrError as error:
        yield error
        return
    least = max(_least_px(kind, options) for _, kind in options.kinds)
    if min(size) < least:
        problem = f"is {size} px; scale {options.scale} needs {least:.0f} px on each side"
        yield DataError(source.name, problem, "Use a larger photo or a smaller scale.")


def _least_px(kind: Kind, options: SimulationOptions) -> float:
    """Return the shorter side of the smallest photo that a kind of pair can be made from."""
    if isinstance(kind, WebConfig):
        return float(MIN_FRAME_PX * options.scale)
    fields = kind.scene.wide_fields if options.captures else 1.0
    ratio = max(1.0, fields / options.scale)
    return MIN_FRAME_PX * options.scale * kind.scene.px_per_tele_px[1] * ratio


def _map_with_progress(
    function: Callable[[SceneJob], Result], jobs: Sequence[SceneJob], *, workers: int
) -> list[Result]:
    """Return the function's result for each job, in order."""
    results = map_in_processes(
        function, jobs, workers=workers, initializer=partial(cv2.setNumThreads, 1)
    )
    shown = track(results, description="Rendering scenes", total=len(jobs))
    return [result for _, result in sorted(shown, key=itemgetter(0))]
