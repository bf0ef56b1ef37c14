"""Compiled graphs kept on disk: written whole, checked when read, the oldest thrown out."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from d2csr.core.errors import UsageError
from d2csr.core.files import cache_folder, write_atomically

_LIMIT_BYTES = 512 << 20  # about 300 graphs of the small models, 25 of the paper's
_DIGEST_BYTES = 32


def cache_key(*parts: bytes | str) -> str:
    """Return the name of an entry that depends on all parts, each told from its neighbours."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


def read_entry(key: str) -> bytes | None:
    """Return what was kept under a key; None where nothing was, or it is damaged."""
    path = _path(key)
    try:
        contents = path.read_bytes()
    except OSError:
        return None
    payload = contents[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != contents[:_DIGEST_BYTES]:
        return None
    with suppress(OSError):
        os.utime(path)  # used now: others are thrown out first
    return payload


def write_entry(key: str, payload: bytes) -> None:
    """Keep a payload, for any process; where nothing can be written, nothing is kept.

    Two processes that write the same entry both write it whole; the last one stands.
    """
    with suppress(OSError, UsageError):
        write_atomically(_path(key), hashlib.sha256(payload).digest() + payload)
        _throw_out(_path(key).parent, keep=_LIMIT_BYTES)


def _path(key: str) -> Path:
    return cache_folder() / "graphs" / f"{key}.blob"


def _throw_out(folder: Path, *, keep: int) -> None:
    """Remove the entries not used for longest until the rest take no more than `keep` bytes."""
    found: list[tuple[float, int, Path]] = []
    for path in folder.glob("*.blob"):
        with suppress(OSError):  # another process threw it out
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    size = sum(bytes_ for _, bytes_, _ in found)
    for _, bytes_, path in sorted(found):
        if size <= keep:
            return
        path.unlink(missing_ok=True)
        size -= bytes_
