"""Memory and disk: what is free, what this process holds, and sizes as people write them."""

import os
import shutil
from pathlib import Path

MIB = 1 << 20

_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_PAIRS = (  # limit and use, of version 2 and of version 1
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def free_bytes() -> int:
    """Return what the system and the control group of this process would still give."""
    free = [_system_free_bytes()]
    for limit, use in _CGROUP_PAIRS:
        try:
            free.append(int((_CGROUP / limit).read_text()) - int((_CGROUP / use).read_text()))
        except (OSError, ValueError):  # no such group; or `max`, no limit
            continue
    return max(0, min(free))


def held_bytes() -> int:
    """Return what this process has in memory now; 0 where the system doesn't say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_disk_bytes(folder: Path) -> int:
    """Return what may be written into a folder; 0 where nothing may."""
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0


def as_text(size: int) -> str:
    """Return a size in MiB, rounded up, or in GiB from ten of them on."""
    mib = -(-size // MIB)
    return f"{mib} MiB" if mib < 10 * 1024 else f"{mib / 1024:.1f} GiB"


def _system_free_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    (available,) = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(available) * 1024
