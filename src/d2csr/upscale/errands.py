"""Errands: pictures fetched from anywhere, enlarged here, and their files brought to a folder."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import final

from d2csr.core.bundle import CARD_NAME, read_bundle
from d2csr.core.errors import D2csrError
from d2csr.core.files import cache_folder, sha256_file
from d2csr.core.folders import atomic_folder
from d2csr.upscale.compute import Compute
from d2csr.upscale.done import Done, described
from d2csr.upscale.faults import PICTURE_FAULTS, picture_fault
from d2csr.upscale.pipeline import Pipeline
from d2csr.upscale.places import fetch, fingerprint, joined, store
from d2csr.upscale.progress import Bar
from d2csr.upscale.report import PictureReport, Teller
from d2csr.upscale.wanted import Job, Wanted


@dataclass(frozen=True)
class Errand:
    """A picture to be enlarged.

    Attributes:
        source: its URL or path.
        place: of its SR file, in the folder of results.
        known: what an earlier run noted of it; None: do it in any case.
    """

    source: str
    place: str
    known: Done | None = None


@dataclass(frozen=True)
class Answer:
    """What came of an errand; a fault is told apart, as exceptions of ours don't travel.

    Attributes:
        report: without the fault.
        done: to be noted, if it was done.
        fault: where, problem, remedy.
    """

    report: PictureReport
    done: Done | None = None
    fault: tuple[str, str, str] | None = None


@final
class Runner:
    """Enlarges one picture after the other with one engine; runs anywhere, alone."""

    def __init__(
        self, files: Mapping[str, bytes], out: str, *, wanted: Wanted, compute: Compute
    ) -> None:
        """Unpack the model and open its engine.

        Args:
            files: of the bundle.
            out: URL or path of the folder of results.
            wanted: what is made of each picture.
            compute: what to compute with.
        """
        self._engine = compute.open(read_bundle(_unpacked(files)))
        self._out, self._wanted, self._limit_mp = out, wanted, compute.limit_mp

    def run(self, errand: Errand, settings: str) -> Answer:
        """Do one errand; pixels go from place to place by files, never by the answer.

        Args:
            errand: what to do.
            settings: hash of all that decides what the results hold.
        """
        target = joined(self._out, errand.place)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "in" / PurePosixPath(errand.source).name
            try:
                fetch(errand.source, source)
                sha256 = sha256_file(source)
                if self._is_done(errand, sha256, settings=settings):
                    return Answer(
                        PictureReport(errand.source, target, "unchanged", worker=os.getpid())
                    )
                results = Path(folder) / "out"
                report = self._enlarged(Job(source, results / errand.place))
                if report.fault is not None:
                    raise report.fault
                files = described(map(Path, report.files), results)
                for file in reversed(files):  # SR last
                    store(results / file.path, joined(self._out, file.path))
            except PICTURE_FAULTS as error:
                return _failed(errand, target, fault=picture_fault(source, error))
        places = tuple(joined(self._out, file.path) for file in files)
        report = replace(
            report, source=errand.source, target=target, files=places, worker=os.getpid()
        )
        return Answer(report, done=Done(sha256, settings, files))

    def _is_done(self, errand: Errand, sha256: str, *, settings: str) -> bool:
        known = errand.known
        if known is None or (known.input_sha256, known.settings) != (sha256, settings):
            return False
        return all(
            fingerprint(joined(self._out, file.path)) == (file.bytes, file.sha256)
            for file in known.files
        )

    def _enlarged(self, job: Job) -> PictureReport:
        teller = Teller(quiet=True)
        bar = Bar(None, pictures=1, input_bytes=0)
        pipeline = Pipeline(self._wanted, teller, bar, limit_mp=self._limit_mp)
        pipeline.run([job], lambda: self._engine)
        return teller.pictures[0]


def _unpacked(files: Mapping[str, bytes]) -> Path:
    """Return a folder with a model's files, among what is kept from run to run."""
    name = hashlib.sha256(files[CARD_NAME]).hexdigest()  # it has the hashes of the others
    folder = cache_folder() / "bundles" / name
    if not folder.is_dir():
        with atomic_folder(folder) as beside:
            for file, contents in files.items():
                (beside / file).write_bytes(contents)
    return folder


def _failed(errand: Errand, target: str, *, fault: D2csrError) -> Answer:
    """Return an answer that names the picture where it comes from, not its copy."""
    where = (
        errand.source if fault.where.endswith(PurePosixPath(errand.source).name) else fault.where
    )
    report = PictureReport(errand.source, target, "failed", worker=os.getpid())
    return Answer(report, fault=(where, fault.problem, fault.remedy))
