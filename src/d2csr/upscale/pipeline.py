"""The pipeline: the next images are read and the last rows encoded while rows are computed.

Work done ahead of need, by one thread, no further than memory allows.

Files of one image while they are written: what kind each is, and what it can't carry.

Errors of one image in words that name the image; what isn't one of these is our own.

A conveyor between two threads: few pieces are on it, and both ends learn of the other's end.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, final

from d2csr.core.errors import BundleError, D2csrError, ImageError, OutOfMemoryError, UsageError
from d2csr.core.files import sha256_file
from d2csr.core.geometry import Size
from d2csr.engine.engine import Engine
from d2csr.images.formats import DEFAULT_LIMIT_MP, PixelFormat, format_limitations
from d2csr.images.metadata import NO_METADATA
from d2csr.images.reader import DecodedImage, read_image, read_size
from d2csr.images.writer import ImageWriter
from d2csr.upscale.image_upscaler import ImageUpscaler, RowBlock
from d2csr.upscale.journal import Journal
from d2csr.upscale.options import Job, OutputOptions
from d2csr.upscale.report import ImageReport, ProgressBar, Reporter, Stopwatch

_ITEMS_AHEAD = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    cost: Callable[[Item], int],
    limit: int,
) -> Iterator[Result]:
    """Yield what `work` makes of each item, in order; the next ones are begun meanwhile.

    Args:
        items: what there is to do.
        work: what is done to each; its errors are raised here.
        cost: bytes that an item's result will take.
        limit: bytes that results may take together, the one in the caller's hands included; a
            result that alone takes more is made when no other is held.
    """
    waiting = deque(items)
    begun: deque[tuple[int, Future[Result]]] = deque()
    held = 0
    pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
    try:
        while waiting or begun:
            while waiting and len(begun) < _ITEMS_AHEAD:
                size = cost(waiting[0])
                if held and held + size > limit:
                    break
                begun.append((size, pool.submit(work, waiting.popleft())))
                held += size
            size, future = begun.popleft()
            yield future.result()
            held -= size
    finally:
        pool.shutdown(cancel_futures=True)


_MAP = PixelFormat()


@contextmanager
def open_writers(
    job: Job, files: list[Path], *, image: DecodedImage, size: Size
) -> Iterator[Mapping[Path, ImageWriter]]:
    """Yield a writer for each of an image's files; SR gets its name last.

    If the block fails, none of them is left.

    Args:
        job: what the files belong to.
        files: what is written, SR first.
        image: whose layout, profile and EXIF the images get; maps of numbers get none.
        size: of what is written.
    """
    with ExitStack() as stack:
        writers = {}
        for file in files:
            is_map = job.is_map(file)
            writer = ImageWriter(
                file,
                size=size,
                pixel_format=_MAP if is_map else image.pixel_format,
                metadata=NO_METADATA if is_map else image.metadata,
                scale=size.width / image.size.width,
            )
            writers[file] = stack.enter_context(writer)
        yield writers


def losses(job: Job, *, image: DecodedImage, size: Size) -> tuple[str, ...]:
    """Return what of an image its SR file can't carry, a sentence each.

    Raises:
        ImageError: it is too large for the format.
    """
    return format_limitations(image.pixel_format, job.target, size=size)


IMAGE_ERRORS = (D2csrError, MemoryError, OSError)


def to_image_error(source: Path, error: BaseException) -> D2csrError:
    """Return an error of the tuple above as one to tell the user."""
    if isinstance(error, MemoryError | OutOfMemoryError):
        remedy = "Give a smaller image, or a part of it, or less --memory."
        return ImageError(source, "is too large for this machine's memory", remedy=remedy)
    if isinstance(error, OSError):
        problem = f"can't be enlarged: {error.strerror or error}"
        return ImageError(source, problem, remedy="Free some space, or choose another folder.")
    if isinstance(error, BundleError) or (
        isinstance(error, UsageError) and error.where == "memory"
    ):  # names a graph, or memory; people look for the image
        return ImageError(source, f"{error.where}: {error.problem}", remedy=error.remedy)
    if isinstance(error, D2csrError):
        return error
    raise error


Item = TypeVar("Item")


class LeftAloneError(Exception):
    """The other end is gone: what is put on the conveyor would reach nobody, or no more comes."""


@final
class Conveyor(Generic[Item]):
    """Pieces on their way from one thread to another, at most `places` at a time."""

    def __init__(self, *, places: int) -> None:
        """Start empty, both ends attended."""
        self._places = places
        self._pieces: deque[Item] = deque()
        self._changed = threading.Condition()
        self._complete = False
        self._left_alone = False

    def put(self, piece: Item) -> None:
        """Put a piece on; wait for a place.

        Raises:
            LeftAloneError: the taker has given up.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._left_alone or len(self._pieces) < self._places)
            if self._left_alone:
                raise LeftAloneError
            self._pieces.append(piece)
            self._changed.notify_all()

    @contextmanager
    def filling(self) -> Iterator["Conveyor[Item]"]:
        """Let the taker see the end when the block ends; if it fails, the taker fails too."""
        try:
            yield self
        except BaseException:
            self._leave()
            raise
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    @contextmanager
    def emptying(self) -> Iterator[Iterator[Item]]:
        """Yield the pieces as they come; if the block fails, so will the next `put`.

        Raises:
            LeftAloneError: in the iteration: the giver failed, and the pieces are not all.
        """
        try:
            yield self._taken()
        finally:
            self._leave()

    def _taken(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._left_alone or self._pieces or self._complete)
                if self._left_alone:
                    raise LeftAloneError
                if not self._pieces:
                    return
                piece = self._pieces.popleft()
                self._changed.notify_all()
            yield piece

    def _leave(self) -> None:
        with self._changed:
            self._left_alone = True
            self._pieces.clear()
            self._changed.notify_all()


_AHEAD_BYTES = 512 << 20  # of images read, the one in work included, at most
_AHEAD_SHARE = 8  # of the memory allowed
_PIXEL_BYTES = 8  # at most: four strips of 16 bit
_PIECES_WAITING = 2  # for the encoder, by image
_ENCODERS = max(1, min(4, (os.cpu_count() or 1) // 2))


@final
@dataclass(frozen=True)
class Decoded:
    """A job with its image, and the hash of its file where one is kept."""

    job: Job
    watch: Stopwatch
    input_sha256: str
    image: DecodedImage


@final
@dataclass(frozen=True)
class Pipeline:
    """What all images of a call share.

    Attributes:
        wanted: what is made of each.
        teller: hears what became of each.
        bar: shows how far it is.
        done: where finished images are noted; None: nowhere.
        settings: hash of all that decides what the results hold.
        resume: leave out what was noted before.
        memory: bytes that the process may hold; None: not said.
        limit_mp: the largest image taken, in millions of pixels.
    """

    wanted: OutputOptions
    teller: Reporter
    bar: ProgressBar
    done: Journal | None = None
    settings: str = ""
    resume: bool = False
    memory: int | None = None
    limit_mp: float = DEFAULT_LIMIT_MP

    def run(self, jobs: Iterable[Job], engine: Callable[[], Engine]) -> None:
        """Enlarge images; an error of one is told and the rest go on.

        Images are read by one thread, computed by this one, encoded by others. Few are held at a
        time: up to 512 MiB of images read, and some strips of rows.

        Args:
            jobs: what to enlarge.
            engine: gives the engine; asked for once the first image is read.

        Raises:
            D2csrError: there is no engine.
        """
        encoding: deque[Future[None]] = deque()
        pool = ThreadPoolExecutor(_ENCODERS, thread_name_prefix="encode")
        try:
            for decoded in prefetch(jobs, self._decode, cost=self._cost, limit=self._ahead()):
                opened = engine()
                if isinstance(decoded, ImageReport):
                    self._tell(decoded)
                    continue
                enlargement = ImageUpscaler(decoded.job, opened, self.wanted, decoded.image)
                if (report := self._refused(enlargement, decoded)) is not None:
                    self._tell(report)
                    continue
                self.bar.begin(decoded.job.source.name)
                encoding.append(self._enlarge(enlargement, decoded, pool=pool))
                while len(encoding) > _ENCODERS:
                    encoding.popleft().result()
            for each in encoding:
                each.result()
        finally:
            pool.shutdown()  # images that were computed are written, even after an interrupt

    def _ahead(self) -> int:
        """Return the bytes of images that may be held."""
        return min(_AHEAD_BYTES, (self.memory or 1 << 62) // _AHEAD_SHARE)

    def _cost(self, job: Job) -> int:
        """Return at most how many bytes an image takes; 0 where its header can't be read."""
        try:
            size = read_size(job.source, limit_mp=self.limit_mp)
        except IMAGE_ERRORS:
            return 0  # reading it will tell
        return size.width * size.height * _PIXEL_BYTES

    def _decode(self, job: Job) -> Decoded | ImageReport:
        """Return a job with its image read, or why there is none: done before, or an error."""
        watch, sha256 = Stopwatch(), ""
        try:
            with watch.timing("decode"):
                if self.done is not None and job.source.is_file():
                    sha256 = sha256_file(job.source)  # before the pixels: changed since, done again
                    if self.resume and self._is_done(job, sha256):
                        return ImageReport(str(job.source), str(job.target), "unchanged")
                image = read_image(job.source, limit_mp=self.limit_mp)
                return Decoded(job, watch, sha256, image)
        except IMAGE_ERRORS as error:
            return _failed(job, watch, error=error)

    def _is_done(self, job: Job, sha256: str) -> bool:
        known = self.done
        return known is not None and known.is_complete(
            job.target, input_sha256=sha256, settings=self.settings
        )

    def _refused(self, enlargement: ImageUpscaler, decoded: Decoded) -> ImageReport | None:
        """Return why the result can't be written, before any work; note what it can't carry."""
        job, size = decoded.job, enlargement.out_size
        try:
            enlargement.warned.extend(losses(job, image=decoded.image, size=size))
        except IMAGE_ERRORS as error:
            return _failed(job, decoded.watch, error=error)
        return None

    def _enlarge(
        self, enlargement: ImageUpscaler, decoded: Decoded, *, pool: ThreadPoolExecutor
    ) -> "Future[None]":
        """Compute an image's rows and return the writing of them, which may not be over."""
        conveyor = Conveyor[RowBlock](places=_PIECES_WAITING)
        writing = pool.submit(self._write, enlargement, conveyor, decoded=decoded)
        watch = decoded.watch
        try:
            with conveyor.filling():
                for piece in watch.timed("compute", enlargement.pieces()):
                    conveyor.put(piece)
                    self._show(enlargement, piece)
        except LeftAloneError:
            pass  # the writing failed, and tells
        except IMAGE_ERRORS as error:
            writing.result()  # it gives up, and leaves nothing
            self._tell(_failed(decoded.job, watch, error=error))
        return writing

    def _write(
        self, enlargement: ImageUpscaler, conveyor: Conveyor[RowBlock], *, decoded: Decoded
    ) -> None:
        """Write an image's files, SR last, note it as done, and tell what came of it."""
        job, watch = decoded.job, decoded.watch
        files, image, size = enlargement.files(), enlargement.image, enlargement.out_size
        try:
            with (
                watch.timing("encode"),
                conveyor.emptying() as pieces,
                open_writers(job, files, image=image, size=size) as sheets,
            ):
                for piece in watch.timed("waiting", pieces):
                    sheets[piece.file].write(piece.rows)
            if self.done is not None:
                self.done.add(files, input_sha256=decoded.input_sha256, settings=self.settings)
        except LeftAloneError:
            return  # computing failed, and tells
        except IMAGE_ERRORS as error:
            self._tell(_failed(job, watch, error=error))
            return
        report = ImageReport(
            str(job.source),
            str(job.target),
            "done",
            files=tuple(map(str, files)),
            lr_size=enlargement.lr_size,
            sr_size=size,
            seconds=_parts(watch),
            warnings=image.warnings + enlargement.warnings,
        )
        self._tell(report)

    def _show(self, enlargement: ImageUpscaler, piece: RowBlock) -> None:
        if piece.file == enlargement.job.target:
            rows, width = piece.rows.shape[:2]
            share = rows / enlargement.out_size.height
            self.bar.advance(
                input_bytes=round(share * _input_bytes(enlargement.job.source)), sr_px=rows * width
            )

    def _tell(self, report: ImageReport) -> None:
        if report.status != "done":
            self.bar.advance(input_bytes=_input_bytes(Path(report.source)), sr_px=0)
        self.bar.finish()
        self.teller.report(report)


def _failed(job: Job, watch: Stopwatch, *, error: BaseException) -> ImageReport:
    return ImageReport(
        str(job.source),
        str(job.target),
        "failed",
        seconds=_parts(watch),
        error=to_image_error(job.source, error),
    )


def _parts(watch: Stopwatch) -> dict[str, float]:
    """Return seconds of decoding, computing and encoding; waiting for rows is no encoding."""
    spent = watch.seconds
    encode = spent.get("encode", 0.0) - spent.get("waiting", 0.0)
    return {"decode": spent.get("decode", 0.0), "compute": spent.get("compute", 0.0)} | {
        "encode": max(encode, 0.0)
    }


def _input_bytes(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError:
        return 0
