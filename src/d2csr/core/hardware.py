"""Hardware of this machine: its memory, its disk space and its processor, as Linux reports them.

Sources: proc(5) for /proc/meminfo, /proc/self/status and /proc/self/clear_refs; the kernel's
documentation of control groups, versions 1 and 2, for the limits of a container.
"""

import ctypes
import os
import platform
import resource
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from d2csr.core.errors import D2csrError, OutOfMemoryError, first_line

MIB = 1 << 20
_M_ARENA_MAX = -8  # of glibc's malloc.h

_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_FILES = (  # limit and usage, of version 2 and of version 1
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_CPU_INFO = Path("/proc/cpuinfo")


def free_bytes() -> int:
    """Return the memory that is free for this process: in the system, and within its limits.

    The limits are those of its control group, of its address space and of its data.
    """
    free = [_system_free_bytes(), *_free_within_limits()]
    for limit, usage in _CGROUP_FILES:
        try:
            free.append(int((_CGROUP / limit).read_text()) - int((_CGROUP / usage).read_text()))
        except (OSError, ValueError):  # no such group; or `max`, no limit
            continue
    return max(0, min(free))


def address_space_limit() -> int | None:
    """Return the bytes that this process may map (`ulimit -v`), or None without such a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def fit_address_space(min_bytes: int) -> None:
    """Prepare for a limited address space (`ulimit -v`); without a limit, do nothing.

    All threads share one heap then: glibc reserves 64 MiB and more for each heap, so that a run of
    500 MB needed 1.3 GB. To be called before threads begin.

    Raises:
        OutOfMemoryError: the limit is below `min_bytes`. Libraries end the process if an early
            allocation fails, without an error that can be caught.
    """
    limit = address_space_limit()
    if limit is None:
        return
    if limit < min_bytes:
        problem = f"`ulimit -v` allows {format_bytes(limit)}, too little to load the libraries"
        remedy = f"Raise the limit to {format_bytes(min_bytes)} at least."
        raise OutOfMemoryError("memory", problem, remedy)
    with suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def lacks_address_space(min_bytes: int) -> bool:
    """Return whether so many bytes can't be mapped any more within the limits of this process."""
    return any(left < min_bytes for left in _free_within_limits())


def _free_within_limits() -> Iterator[int]:
    """Yield what is left of the process's address space and of its data (`ulimit -v` and `-d`)."""
    for number, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit, _ = resource.getrlimit(number)
        if limit != resource.RLIM_INFINITY:
            yield limit - (_status_bytes(field) or 0)


def rss_bytes() -> int | None:
    """Return the resident memory of this process, or None where /proc is missing."""
    return _status_bytes("VmRSS")


def peak_rss_bytes() -> int | None:
    """Return the peak of the resident memory since `reset_peak_rss`, or since the start."""
    return _status_bytes("VmHWM")


def reset_peak_rss() -> None:
    """Reset the peak of the resident memory; without the right to do so, it stays as it is."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return


def out_of_memory(error: BaseException) -> OutOfMemoryError:
    """Return an error that came from a failed allocation as one that says what is allowed.

    An error of ours keeps its place, but not its advice: what failed for lack of memory looks
    damaged to the code around it.
    """
    if isinstance(error, OutOfMemoryError):
        return error
    where = error.where if isinstance(error, D2csrError) else "memory"
    reason = error.problem if isinstance(error, D2csrError) else first_line(error)
    limit = address_space_limit()
    free = f"{format_bytes(free_bytes())} of memory is free"
    if limit is None:
        allowed, remedy = free, "Close other programs, or use smaller images."
    else:
        allowed = f"{free} of the {format_bytes(limit)} that `ulimit -v` allows"
        remedy = "Raise the limit, or use smaller images."
    return OutOfMemoryError(where, f"{allowed}, too little ({reason})", remedy)


def free_disk_bytes(folder: Path) -> int:
    """Return the free disk space of a folder; 0 if it isn't writable."""
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0


def format_bytes(size: int) -> str:
    """Return a size in MiB, rounded up, or in GiB from 10 GiB on."""
    mib = -(-size // MIB)
    return f"{mib} MiB" if mib < 10 * 1024 else f"{mib / 1024:.1f} GiB"


def cpu_flags() -> frozenset[str]:
    """Return the processor's features by their Linux names, such as `avx512_bf16`.

    Empty where /proc is missing. x86 lists them as `flags`, Arm as `Features`.
    """
    lines = _read_lines(_CPU_INFO)
    listed = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(listed.partition(":")[2].split())


def cpu_name() -> str:
    """Return the name of the processor, or its architecture where /proc doesn't name it."""
    names = [line for line in _read_lines(_CPU_INFO) if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_has_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 (AVX-512 BF16, AMX, or Arm's BF16)."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(cpu_flags())


def _system_free_bytes() -> int:
    for line in _read_lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _status_bytes(name: str) -> int | None:
    for line in _read_lines(_STATUS):
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return None


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
