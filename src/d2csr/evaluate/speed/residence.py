"""Memory that this process holds, and held at most, as the Linux kernel counts it."""

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # proc(5): resets VmHWM to what is held now


def held_bytes() -> int | None:
    """Return the memory that is held now; None where the system doesn't say."""
    return _field("VmRSS")


def peak_bytes() -> int | None:
    """Return the most that was held since the start, or since `forget_peak`."""
    return _field("VmHWM")


def forget_peak() -> None:
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
