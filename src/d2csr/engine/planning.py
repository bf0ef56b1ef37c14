"""The plan of a picture: how its trunk runs, in which bands the rest, and what that takes."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from d2csr.core.bundle import ModelCard
from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.core.memory import MIB, as_text

Trunk = Literal["whole", "memory", "disk", "windows"]

# Of SR: the convergence network's features then stay in the processor's cache (1.3-1.4x faster).
_BAND_SR_ROWS = 64
_WINDOW_ROWS = 64  # of a pass: its maps, too, should stay in the cache

# Measured as growth of VmHWM with OpenVINO 2026.4. In maps of the trunk's channels per LR pixel:
_MAPS_OF_WHOLE = 17.0  # 16.3 to 16.6, the features that come out included
_MAPS_OF_WINDOW = 16.0  # 13.7 to 15.5
_LR_BYTES = 12  # three float32 of every pixel, copied for it
_FIXED_BYTES = 64 * MIB  # graphs compiled and dropped, and the allocator's own
WINDOWS_LEVELS = 1.0  # of 255, the largest figure of benchmarks/windows.py, rounded up
_WHOLE_AT_MOST_BYTES = 2048 * MIB  # beyond, passes cost little time and save most of the memory


class Band(NamedTuple):
    """LR rows to write, `first` to `last`, and LR rows to read for them, `top` to `bottom`.

    Both ends are exclusive at the lower side. At the picture's own frame nothing is read beyond, so
    that the graphs' padding happens where the whole picture's does.
    """

    first: int
    last: int
    top: int
    bottom: int


@dataclass(frozen=True)
class Plan:
    """What will be done with a picture.

    Attributes:
        trunk: `whole`: in one piece; `memory`: pass by pass, maps kept in memory; `disk`: the same,
            maps kept in a scratch file. All give the same picture. `windows`: parts of the picture
            in one piece each.
        window_rows: LR rows that a pass reads at once; of `windows`, without their halo.
        band_rows: LR rows that the tail writes at once.
        peak_bytes: memory this takes, beside what the process holds already.
        scratch_bytes: room on disk.
        exact: whether it is the whole picture's result, to rounding.
    """

    trunk: Trunk
    window_rows: int
    band_rows: int
    peak_bytes: int
    scratch_bytes: int = 0
    exact: bool = True

    def as_text(self) -> str:
        """Return a few words for people."""
        passes = f"pass by pass in windows of {self.window_rows} rows"
        ways = {
            "whole": "in one piece",
            "memory": passes,
            "disk": f"{passes} with {as_text(self.scratch_bytes)} on disk",
            "windows": f"in parts of {self.window_rows} rows",
        }
        return f"{ways[self.trunk]}, then in bands of {self.band_rows} rows"

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
    """Bytes that the parts of a model take for one picture.

    Attributes:
        whole: the trunk in one piece, its features included.
        channel: one channel of one map, on the LR grid.
        leaves: the features.
        window_row: one row of a pass's window.
        band_row: one row of the tail's band, halo rows too.
        band_halo_rows: rows that a band reads beyond its own, both sides together.
    """

    whole: int
    channel: int
    leaves: int
    window_row: int
    band_row: int
    band_halo_rows: int

    def window(self, rows: int) -> int:
        """Return what a pass takes, its maps aside."""
        return rows * self.window_row + _FIXED_BYTES

    def band(self, rows: int) -> int:
        """Return what a band of the tail takes, the features aside."""
        return (rows + self.band_halo_rows) * self.band_row + _FIXED_BYTES


def estimate_memory(card: ModelCard, size: Size, *, value_bytes: int) -> MemoryEstimate:
    """Return what a model needs for an LR picture whose maps have values of so many bytes."""
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
        band_row=size.width * (3 * leaves + card.scale**2 * 4 * sr_values),
        band_halo_rows=2 * card.reach.halo_lr_rows,
    )


def plan_whole(need: MemoryEstimate, *, height: int, scale: int, budget: int) -> Plan | None:
    """Return the plan that runs the trunk in one piece, or None where it takes too much."""
    rows = min(default_band_rows(scale), height)
    peak = max(need.whole + _FIXED_BYTES, need.leaves + need.band(rows))
    if peak > min(budget, _WHOLE_AT_MOST_BYTES):
        return None
    return Plan("whole", height, rows, peak)


@dataclass(frozen=True)
class StreamingRequirements:
    """What a trunk run pass by pass asks for, whatever the picture.

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
    """Return the memory that a picture takes at least, its maps on disk."""
    return max(need.window(streaming.least_rows(height)), need.band(1))


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
        need: of the model, for the picture.
        streaming: of the model.
        height: LR rows of the picture.
        scale: of the model.
        budget: bytes that may be taken, beside what is held.
        disk: bytes that scratch may take there.

    Raises:
        UsageError: it takes more memory even with its maps on disk, and how much.
    """
    maps, least_rows = streaming.channels * need.channel, streaming.least_rows(height)
    ways: tuple[tuple[Trunk, int, int], ...] = (("memory", maps, need.leaves), ("disk", 0, 0))
    for trunk, kept, leaves in ways:
        fits = max(kept + need.window(least_rows), leaves + need.band(1)) <= budget
        if not fits or (trunk == "disk" and maps > disk):
            continue
        window = (budget - kept - _FIXED_BYTES) // need.window_row
        window = max(least_rows, min(window, _WINDOW_ROWS, height))
        rows = (budget - leaves - _FIXED_BYTES) // need.band_row - need.band_halo_rows
        rows = max(1, min(rows, default_band_rows(scale), height))
        peak = max(kept + need.window(window), leaves + need.band(rows))
        return Plan(trunk, window, rows, peak, maps if trunk == "disk" else 0)
    least = min_bytes(need, streaming, height=height)
    if least > budget:
        problem = f"leaves {as_text(max(budget, 0))} for a picture that takes {as_text(least)}"
        remedy = f"Allow {as_text(least - budget)} more."
        raise UsageError("memory", problem, remedy=remedy)
    return None


def plan_windows(
    need: MemoryEstimate, *, reach_rows: int, exact: bool, height: int, scale: int, budget: int
) -> Plan:
    """Return the plan that runs the trunk over parts of the picture, as large as memory allows.

    Args:
        need: of the model, for the picture.
        reach_rows: LR rows beyond a part that its features depend on, means of channels aside.
        exact: whether there are no such means.
        height: LR rows of the picture.
        scale: of the model.
        budget: bytes that may be taken, beside what is held.

    Raises:
        UsageError: even the smallest part takes more.
    """
    row_bytes = need.whole // height + 1
    halo_rows, least_rows = 2 * reach_rows, min(need.band_halo_rows + 1, height)
    rows = min((budget - _FIXED_BYTES) // row_bytes - halo_rows, height)
    if rows < least_rows:
        least = (least_rows + halo_rows) * row_bytes + _FIXED_BYTES
        problem = f"neither {as_text(max(budget, 0))} nor the disk takes the maps of the picture"
        remedy = f"Allow {as_text(least - budget)} more, or point TMPDIR to a larger disk."
        raise UsageError("memory", problem, remedy=remedy)
    spare = budget - rows * need.leaves // height - _FIXED_BYTES
    band_rows = min(spare // need.band_row, rows) - need.band_halo_rows
    band_rows = max(1, min(band_rows, default_band_rows(scale)))
    peak = max(
        (rows + halo_rows) * row_bytes + _FIXED_BYTES,
        rows * need.leaves // height + need.band(band_rows),
    )
    return Plan("windows", rows, band_rows, peak, exact=exact)


def plan_bands(height: int, *, band_rows: int, halo_rows: int, start: int = 0) -> list[Band]:
    """Return bands that cover a picture, from top to bottom.

    Args:
        height: LR rows of the picture.
        band_rows: LR rows of a band; the last one may be lower.
        halo_rows: LR rows that a band's SR depends on beyond it.
        start: the first LR row to write.
    """
    firsts = range(start, height, band_rows)
    lasts = [min(first + band_rows, height) for first in firsts]
    return [
        Band(first, last, max(first - halo_rows, 0), min(last + halo_rows, height))
        for first, last in zip(firsts, lasts, strict=True)
    ]


def default_band_rows(scale: int) -> int:
    """Return the LR rows of a band where nothing else is asked for."""
    return _BAND_SR_ROWS // scale
