"""Addresses of results: tiles to look at, files to download, and all files of a job as a zip.

An address names a job by its unguessable token, a photo by number and an image by its kind, all of
which are looked up; no part of an address becomes part of a path.
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import final

from fastapi import FastAPI, HTTPException
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)

from d2csr.core.errors import D2csrError
from d2csr.web.jobs import JobQueue
from d2csr.web.results import Layer, Result, Tiles, find_result

_CHUNK_BYTES = 1 << 20
_TILE_HEADERS = {"Cache-Control": "private, max-age=3600"}


def add_routes(app: FastAPI, queue: JobQueue, *, limit_mp: float) -> None:
    """Add the addresses of results to an application.

    Args:
        app: the application.
        queue: the jobs.
        limit_mp: largest photo that is decoded to be shown, in megapixels.
    """
    _add_tiles(app, queue, tiles=Tiles(limit_mp=limit_mp))

    @app.get("/results/{token}/{index}/files/{number}")
    def download(*, token: str, index: str, number: int) -> Response:
        files = _find(queue, token, index=index).report.files
        if not 0 <= number < len(files):
            raise HTTPException(404)
        return _file(Path(files[number]), {}, name=Path(files[number]).name)

    @app.get("/results/{token}/zip")
    def download_all(token: str) -> Response:
        reports = _find(queue, token, index="0").job.done
        files = [Path(file) for report in reports for file in report.files]
        headers = {"Content-Disposition": 'attachment; filename="enlarged.zip"'}
        return StreamingResponse(iter_zip(files), media_type="application/zip", headers=headers)


def _add_tiles(app: FastAPI, queue: JobQueue, *, tiles: Tiles) -> None:
    @app.get("/results/{token}/{index}/{name}/tiles")
    def describe(*, token: str, index: str, name: str) -> Response:
        result = _find(queue, token, index=index)
        layer = _layer(result, name)
        try:
            return JSONResponse(tiles.describe(layer, result.tiles_folder(layer)))
        except D2csrError as error:
            return PlainTextResponse(str(error), 422)

    @app.get("/results/{token}/{index}/{name}/{level}/{column}_{row}.jpg")
    def tile(*, token: str, index: str, name: str, level: int, column: int, row: int) -> Response:
        result = _find(queue, token, index=index)
        folder = result.tiles_folder(_layer(result, name))
        return _file(tiles.path(folder, level=level, column=column, row=row), _TILE_HEADERS)


def iter_zip(files: list[Path]) -> Iterator[bytes]:
    """Yield the bytes of a zip archive of files, uncompressed, while they are read."""
    written = _Written()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            with path.open("rb") as source, archive.open(path.name, "w", force_zip64=True) as entry:
                while chunk := source.read(_CHUNK_BYTES):
                    entry.write(chunk)
                    yield written.take()
    yield written.take()


@final
class _Written(io.RawIOBase):
    """A stream whose contents are taken out after each write."""

    def __init__(self) -> None:
        self._contents = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override] - any bytes-like object
        self._contents += data
        return len(data)

    def take(self) -> bytes:
        """Return the bytes written since the last call."""
        taken, self._contents = bytes(self._contents), bytearray()
        return taken


def _find(queue: JobQueue, token: str, *, index: str) -> Result:
    result = find_result(queue, f"{token}/{index}")
    if result is None:
        raise HTTPException(404, "This result is no longer here.")
    return result


def _layer(result: Result, name: str) -> Layer:
    layer = result.layers.get(name)
    if layer is None:
        raise HTTPException(404)
    return layer


def _file(path: Path, headers: dict[str, str], *, name: str | None = None) -> Response:
    """Return the contents of a file; as one to save, if it has a name."""
    if not path.is_file():
        raise HTTPException(404)
    return FileResponse(path, headers=headers, filename=name)
