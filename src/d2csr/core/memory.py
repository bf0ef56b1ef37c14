"""Memory and disk: what is free, what this process holds, and sizes as people write them.

Memory that this process holds, and held at most, as the Linux kernel counts it.
"""

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


def rss_bytes() -> int:
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


_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # proc(5): resets VmHWM to what is held now


def resident_bytes() -> int | None:
    """Return the memory that is held now; None where the system doesn't say."""
    return _field("VmRSS")


def peak_bytes() -> int | None:
    """Return the most that was held since the start, or since `reset_peak_rss`."""
    return _field("VmHWM")


def reset_peak_rss() -> None:
    """Begin the peak anew; without the right to, the peak since the start stays."""
    try:
        _CLEAR.write_text(_FORGET_PEAK, encoding="ascii")
    except OSError:
        return


def _field(name: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return None
