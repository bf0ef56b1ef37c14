"""The plan of an image: how its trunk runs, in which strips the rest, and what that takes."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from d2csr.core.bundle import ModelCard
from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.core.hardware import MIB, format_bytes

Trunk = Literal["whole", "memory", "disk", "windows"]

# Of SR: the convergence network's features then stay in the processor's cache (1.3-1.4x faster).
_STRIP_SR_ROWS = 64
_WINDOW_ROWS = 64  # of a pass: its maps, too, should stay in the cache

# Measured as growth of VmHWM with OpenVINO 2026.4. In maps of the trunk's channels per LR pixel:
_MAPS_OF_WHOLE = 17.0  # 16.3 to 16.6, the features that come out included
_MAPS_OF_WINDOW = 16.0  # 13.7 to 15.5
_LR_BYTES = 12  # three float32 of every pixel, copied for it
_FIXED_BYTES = 64 * MIB  # graphs compiled and dropped, and the allocator's own
WINDOWS_LEVELS = 1.0  # of 255, the largest figure of benchmarks/windows.py, rounded up
_WHOLE_AT_MOST_BYTES = 2048 * MIB  # beyond, passes cost little time and save most of the memory


class Strip(NamedTuple):
    """LR rows to write, `first` to `last`, and LR rows to read for them, `top` to `bottom`.

    Both ends are exclusive at the lower side. At the image's own frame nothing is read beyond, so
    that the graphs' padding happens where the whole image's does.
    """

    first: int
    last: int
    top: int
    bottom: int


@dataclass(frozen=True)
class Plan:
    """What will be done with an image.

    Attributes:
        trunk: `whole`: in one piece; `memory`: pass by pass, maps kept in memory; `disk`: the same,
            maps kept in a scratch file. All give the same image. `windows`: parts of the image
            in one piece each.
        window_rows: LR rows that a pass reads at once; of `windows`, without their halo.
        strip_rows: LR rows that the tail writes at once.
        peak_bytes: memory this takes, beside what the process holds already.
        scratch_bytes: room on disk.
        exact: whether it is the whole image's result, to rounding.
    """

    trunk: Trunk
    window_rows: int
    strip_rows: int
    peak_bytes: int
    scratch_bytes: int = 0
    exact: bool = True

    def as_text(self) -> str:
        """Return a few words for people."""
        passes = f"pass by pass in windows of {self.window_rows} rows"
        ways = {
            "whole": "in one piece",
            "memory": passes,
            "disk": f"{passes} with {format_bytes(self.scratch_bytes)} on disk",
            "windows": f"in parts of {self.window_rows} rows",
        }
        return f"{ways[self.trunk]}, then in strips of {self.strip_rows} rows"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what the user should know of the result."""
        if self.exact:
            return ()
        how = f"computed in parts of {self.window_rows} rows with channel means of their own"
        far = f"with the models that ship by up to {WINDOWS_LEVELS:g} of 255 grey levels"
        return (f"too large for memory and disk: {how}; differs from the whole's result, {far}",)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that the parts of a model take for one image.

    Attributes:
        whole: the trunk in one piece, its features included.
        channel: one channel of one map, on the LR grid.
        leaves: the features.
        window_row: one row of a pass's window.
        strip_row: one row of the tail's strip, halo rows too.
        strip_halo_rows: rows that a strip reads beyond its own, both sides together.
    """

    whole: int
    channel: int
    leaves: int
    window_row: int
    strip_row: int
    strip_halo_rows: int

    def window(self, rows: int) -> int:
        """Return what a pass takes, its maps aside."""
        return rows * self.window_row + _FIXED_BYTES

    def strip(self, rows: int) -> int:
        """Return what a strip of the tail takes, the features aside."""
        return (rows + self.strip_halo_rows) * self.strip_row + _FIXED_BYTES


def estimate_memory(card: ModelCard, size: Size, *, value_bytes: int) -> MemoryEstimate:
    """Return what a model needs for an LR image whose maps have values of so many bytes."""
    config, pixels = card.config, size.width * size.height
    map_bytes, leaves = config.channels * value_bytes, config.leaves * config.channels * value_bytes
    # Of an SR pixel: predictions thrice (made, joined, copied), two layers of the convergence
    # network, weights and shares, SR twice.
    sr_values = 9 * config.leaves + 2 * config.convergence_channels + 5 * config.leaves + 6
    return MemoryEstimate(
        whole=int(pixels * (_MAPS_OF_WHOLE * map_bytes + _LR_BYTES)),
        channel=pixels * value_bytes,
        leaves=pixels * leaves,
        window_row=int(size.width * _MAPS_OF_WINDOW * map_bytes),
        strip_row=size.width * (3 * leaves + card.scale**2 * 4 * sr_values),
        strip_halo_rows=2 * card.receptive_field.halo_lr_rows,
    )


def plan_whole(need: MemoryEstimate, *, height: int, scale: int, budget: int) -> Plan | None:
    """Return the plan that runs the trunk in one piece, or None where it takes too much."""
    rows = min(default_strip_rows(scale), height)
    peak = max(need.whole + _FIXED_BYTES, need.leaves + need.strip(rows))
    if peak > min(budget, _WHOLE_AT_MOST_BYTES):
        return None
    return Plan("whole", height, rows, peak)


@dataclass(frozen=True)
class StreamingRequirements:
    """What a trunk run pass by pass asks for, whatever the image.

    Attributes:
        channels: of all maps kept at once.
        halo_rows: the widest halo of a pass.
    """

    channels: int
    halo_rows: int

    def least_rows(self, height: int) -> int:
        """Return the rows of a window that leave every pass one row to write."""
        return min(2 * self.halo_rows + 1, height)


def min_bytes(need: MemoryEstimate, streaming: StreamingRequirements, *, height: int) -> int:
    """Return the memory that an image takes at least, its maps on disk."""
    return max(need.window(streaming.least_rows(height)), need.strip(1))


def plan_streamed(
    need: MemoryEstimate,
    streaming: StreamingRequirements,
    *,
    height: int,
    scale: int,
    budget: int,
    disk: int,
) -> Plan | None:
    """Return the fastest plan that runs the trunk pass by pass; None: its maps fit nowhere.

    Args:
        need: of the model, for the image.
        streaming: of the model.
        height: LR rows of the image.
        scale: of the model.
        budget: bytes that may be taken, beside what is held.
        disk: bytes that scratch may take there.

    Raises:
        UsageError: it takes more memory even with its maps on disk, and how much.
    """
    maps, least_rows = streaming.channels * need.channel, streaming.least_rows(height)
    ways: tuple[tuple[Trunk, int, int], ...] = (("memory", maps, need.leaves), ("disk", 0, 0))
    for trunk, kept, leaves in ways:
        fits = max(kept + need.window(least_rows), leaves + need.strip(1)) <= budget
        if not fits or (trunk == "disk" and maps > disk):
            continue
        window = (budget - kept - _FIXED_BYTES) // need.window_row
        window = max(least_rows, min(window, _WINDOW_ROWS, height))
        rows = (budget - leaves - _FIXED_BYTES) // need.strip_row - need.strip_halo_rows
        rows = max(1, min(rows, default_strip_rows(scale), height))
        peak = max(kept + need.window(window), leaves + need.strip(rows))
        return Plan(trunk, window, rows, peak, maps if trunk == "disk" else 0)
    least = min_bytes(need, streaming, height=height)
    if least > budget:
        problem = (
            f"leaves {format_bytes(max(budget, 0))} for an image that takes {format_bytes(least)}"
        )
        remedy = f"Allow {format_bytes(least - budget)} more."
        raise UsageError("memory", problem, remedy=remedy)
    return None


def plan_windows(
    need: MemoryEstimate, *, reach_rows: int, exact: bool, height: int, scale: int, budget: int
) -> Plan:
    """Return the plan that runs the trunk over parts of the image, as large as memory allows.

    Args:
        need: of the model, for the image.
        reach_rows: LR rows beyond a part that its features depend on, means of channels aside.
        exact: whether there are no such means.
        height: LR rows of the image.
        scale: of the model.
        budget: bytes that may be taken, beside what is held.

    Raises:
        UsageError: even the smallest part takes more.
    """
    row_bytes = need.whole // height + 1
    halo_rows, least_rows = 2 * reach_rows, min(need.strip_halo_rows + 1, height)
    rows = min((budget - _FIXED_BYTES) // row_bytes - halo_rows, height)
    if rows < least_rows:
        least = (least_rows + halo_rows) * row_bytes + _FIXED_BYTES
        problem = f"neither {format_bytes(max(budget, 0))} nor the disk takes the maps of the image"
        remedy = f"Allow {format_bytes(least - budget)} more, or point TMPDIR to a larger disk."
        raise UsageError("memory", problem, remedy=remedy)
    spare = budget - rows * need.leaves // height - _FIXED_BYTES
    strip_rows = min(spare // need.strip_row, rows) - need.strip_halo_rows
    strip_rows = max(1, min(strip_rows, default_strip_rows(scale)))
    peak = max(
        (rows + halo_rows) * row_bytes + _FIXED_BYTES,
        rows * need.leaves // height + need.strip(strip_rows),
    )
    return Plan("windows", rows, strip_rows, peak, exact=exact)


def plan_strips(height: int, *, strip_rows: int, halo_rows: int, start: int = 0) -> list[Strip]:
    """Return strips that cover an image, from top to bottom.

    Args:
        height: LR rows of the image.
        strip_rows: LR rows of a strip; the last one may be lower.
        halo_rows: LR rows that a strip's SR depends on beyond it.
        start: the first LR row to write.
    """
    firsts = range(start, height, strip_rows)
    lasts = [min(first + strip_rows, height) for first in firsts]
    return [
        Strip(first, last, max(first - halo_rows, 0), min(last + halo_rows, height))
        for first, last in zip(firsts, lasts, strict=True)
    ]


def default_strip_rows(scale: int) -> int:
    """Return the LR rows of a strip where nothing else is asked for."""
    return _STRIP_SR_ROWS // scale
