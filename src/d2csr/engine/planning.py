"""The plan for an image: how its trunk runs, the strips of its tail, and the memory they take.

All plans give the same image, on OpenVINO the same bits in fp32 and bf16, except for `tiles` of a
trunk with means of the whole image. The constants below are measured; `estimate_memory` applies
them to a model and a size.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from d2csr.core.bundle import ModelCard
from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.core.hardware import MIB, format_bytes
from d2csr.core.system_config import SystemConfig

Trunk = Literal["whole", "memory", "disk", "tiles", "none"]

# Of SR: the convergence network's features then stay in the processor's cache (1.3-1.4x faster).
_STRIP_SR_ROWS = 64
# Of a segment: per written pixel, 96 take 8% (1500 px wide) to 18% (4000 px) less time than 64,
# because less is halo; 128 take 12% and 14% less.
_WINDOW_ROWS = 96

# Measured as growth of VmHWM with OpenVINO 2026.4. In maps of the trunk's channels per LR pixel:
_MAPS_OF_WHOLE = 17.0  # 16.3 to 16.6, the features that come out included
_MAPS_OF_WINDOW = 16.0  # 13.7 to 15.5
_SYSTEM_SHARE = 1.1  # of the values that a graph holds, which are measured when it is exported
_LR_BYTES = 12  # a copy of every pixel's three float32
_FIXED_BYTES = 64 * MIB  # graphs compiled and dropped, and the allocator's own
TILING_ERROR_LEVELS = 1.0  # of 255, the largest error in benchmarks/windows.py, rounded up
_WHOLE_LIMIT_BYTES = 2048 * MIB  # above it, segments cost little time and save most of the memory


class Strip(NamedTuple):
    """LR rows to write, `first` to `last`, and LR rows to read for them, `top` to `bottom`.

    `last` and `bottom` are exclusive. Nothing is read beyond the image, so that the graphs pad
    where they pad the whole image.
    """

    first: int
    last: int
    top: int
    bottom: int


@dataclass(frozen=True)
class Plan:
    """A way to run an image.

    Attributes:
        trunk: `whole`: in one piece; `memory`: in segments, with feature maps in memory; `disk`:
            the same with feature maps in a temporary file; `tiles`: on parts of the image, each
            in one piece; `none`: there is none, as all of the network runs in strips.
        window_rows: LR rows that a segment reads at once; LR rows of a tile without its halo.
        strip_rows: LR rows that the tail writes at once.
        peak_bytes: memory that it takes, in addition to what the process holds before.
        scratch_bytes: size of the temporary file.
        exact: whether the result is the whole image's.
    """

    trunk: Trunk
    window_rows: int
    strip_rows: int
    peak_bytes: int
    scratch_bytes: int = 0
    exact: bool = True

    def as_text(self) -> str:
        """Return the plan in a few words."""
        if self.trunk == "none" and self.strip_rows >= self.window_rows:
            return "in one piece"
        if self.trunk == "none":
            return f"in strips of {self.strip_rows} rows, each with the rows that it depends on"
        segments = f"in segments, {self.window_rows} rows at a time"
        texts = {
            "whole": "in one piece",
            "memory": segments,
            "disk": f"{segments}, with {format_bytes(self.scratch_bytes)} on disk",
            "tiles": f"in tiles of {self.window_rows} rows",
        }
        return f"{texts[self.trunk]}, then in strips of {self.strip_rows} rows"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return warnings about the accuracy of the result."""
        if self.exact:
            return ()
        tiles = f"computed in tiles of {self.window_rows} rows, each with its own channel means"
        error = f"with the shipped models by up to {TILING_ERROR_LEVELS:g} of 255 gray levels"
        return (f"too large for memory and disk: {tiles}; differs from the exact result, {error}",)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that the parts of a model take for one image.

    Attributes:
        whole: the trunk in one piece, its features included.
        channel: one channel of one feature map, at LR size.
        leaves: the features of all leaves.
        window_row: one row of a segment's window.
        strip_row: one row of the tail's strip, halo rows too.
        strip_halo_rows: rows that a strip reads beyond its own, both sides together.
    """

    whole: int
    channel: int
    leaves: int
    window_row: int
    strip_row: int
    strip_halo_rows: int

    def whole_row(self, height: int) -> int:
        """Return the bytes of one of `height` rows of the trunk in one piece."""
        return self.whole // height + 1

    def window(self, rows: int) -> int:
        """Return the bytes of a segment's window, without stored feature maps."""
        return rows * self.window_row + _FIXED_BYTES

    def strip(self, rows: int) -> int:
        """Return the bytes of a strip of the tail, without the features."""
        return (rows + self.strip_halo_rows) * self.strip_row + _FIXED_BYTES


def estimate_memory(card: ModelCard, size: Size, *, value_bytes: int) -> MemoryEstimate:
    """Return the memory that a model takes for an LR image.

    Args:
        card: the model's card.
        size: of the image, in LR pixels.
        value_bytes: size of a value of a stored feature map.
    """
    config, pixels = card.config, size.width * size.height
    if isinstance(config, SystemConfig):
        raise TypeError("systems have no trunk: use plan_system")
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
    """Return the plan that runs the trunk in one piece, or None if that takes too much memory."""
    rows = min(default_strip_rows(scale), height)
    peak = max(need.whole + _FIXED_BYTES, need.leaves + need.strip(rows))
    if peak > min(budget, _WHOLE_LIMIT_BYTES):
        return None
    return Plan("whole", height, rows, peak)


@dataclass(frozen=True)
class StreamingRequirements:
    """What a trunk that runs in segments takes, whatever the image.

    Attributes:
        channels: of all feature maps that are stored at the same time.
        halo_rows: the widest halo of a segment.
    """

    channels: int
    halo_rows: int

    def min_window_rows(self, height: int) -> int:
        """Return the rows of a window from which every segment can write one row."""
        return min(2 * self.halo_rows + 1, height)


def min_bytes(need: MemoryEstimate, streaming: StreamingRequirements, *, height: int) -> int:
    """Return the least memory that an image can run in, with feature maps on disk."""
    return max(need.window(streaming.min_window_rows(height)), need.strip(1))


def min_tile_bytes(need: MemoryEstimate, *, trunk_halo_rows: int, height: int) -> int:
    """Return the least memory that an image can run in on tiles."""
    rows = min(need.strip_halo_rows + 1, height) + 2 * trunk_halo_rows
    return rows * need.whole_row(height) + _FIXED_BYTES


def plan_segments(
    need: MemoryEstimate,
    streaming: StreamingRequirements,
    *,
    height: int,
    scale: int,
    budget: int,
    disk: int,
) -> Plan | None:
    """Return the fastest plan that runs the trunk in segments; None if its maps fit nowhere.

    Args:
        need: memory of the model for the image.
        streaming: requirements of the model.
        height: LR rows of the image.
        scale: SR pixels per LR pixel.
        budget: bytes of memory that it may take, in addition to what is held.
        disk: bytes that its temporary file may take.

    Raises:
        UsageError: it takes more memory even with its maps on disk; the error says how much.
    """
    smallest = min_bytes(need, streaming, height=height)
    if smallest > budget:
        left, needed = format_bytes(max(budget, 0)), format_bytes(smallest)
        problem = f"leaves {left} for an image that takes {needed}"
        remedy = f"Allow {format_bytes(smallest - budget)} more."
        raise UsageError("memory", problem, remedy)
    stored, min_rows = streaming.channels * need.channel, streaming.min_window_rows(height)
    places: tuple[tuple[Trunk, int, int], ...] = (("memory", stored, need.leaves), ("disk", 0, 0))
    for trunk, maps, leaves in places:
        fits = max(maps + need.window(min_rows), leaves + need.strip(1)) <= budget
        if not fits or (trunk == "disk" and stored > disk):
            continue
        window = (budget - maps - _FIXED_BYTES) // need.window_row
        window = max(min_rows, min(window, _WINDOW_ROWS, height))
        rows = _strip_rows(need, budget - leaves, at_most=min(default_strip_rows(scale), height))
        peak = max(maps + need.window(window), leaves + need.strip(rows))
        return Plan(trunk, window, rows, peak, stored if trunk == "disk" else 0)
    return None


def plan_tiles(
    need: MemoryEstimate, *, trunk_halo_rows: int, exact: bool, height: int, scale: int, budget: int
) -> Plan:
    """Return the plan that runs the trunk on tiles of the image, as large as memory allows.

    Args:
        need: memory of the model for the image.
        trunk_halo_rows: LR rows beyond a tile that its features depend on, channel means aside.
        exact: whether the trunk has no channel means of the whole image.
        height: LR rows of the image.
        scale: SR pixels per LR pixel.
        budget: bytes of memory that it may take, in addition to what is held.

    Raises:
        UsageError: even the smallest tile takes more.
    """
    row_bytes, halo_rows = need.whole_row(height), 2 * trunk_halo_rows
    smallest = min_tile_bytes(need, trunk_halo_rows=trunk_halo_rows, height=height)
    if exact:  # so that larger tiles are no better, only slower: their maps leave the cache
        budget = min(budget, max(_WHOLE_LIMIT_BYTES, 2 * smallest))
    rows = min((budget - _FIXED_BYTES) // row_bytes - halo_rows, height)
    if rows < min(need.strip_halo_rows + 1, height):
        left = format_bytes(max(budget, 0))
        problem = f"neither {left} nor the disk holds the feature maps of the image"
        remedy = f"Allow {format_bytes(smallest - budget)} more, or point TMPDIR to a larger disk."
        raise UsageError("memory", problem, remedy)
    leaves = rows * need.leaves // height
    at_most = min(default_strip_rows(scale), rows - need.strip_halo_rows)
    strip_rows = _strip_rows(need, budget - leaves, at_most=at_most)
    peak = max((rows + halo_rows) * row_bytes + _FIXED_BYTES, leaves + need.strip(strip_rows))
    return Plan("tiles", rows, strip_rows, peak, exact=exact)


def plan_system(config: SystemConfig, size: Size, *, budget: int, strip_rows: int | None) -> Plan:
    """Return the plan of a compared system: strips as high as memory allows, or the whole image.

    Args:
        config: of the network.
        size: of the image, in LR pixels.
        budget: bytes of memory that it may take, in addition to what is held.
        strip_rows: maximum of LR rows of a strip; None: as many as fit.

    Raises:
        UsageError: even the smallest strip takes more; the error says how much.
    """
    smallest, row_bytes = min_system_bytes(config, size), _system_row_bytes(config, size)
    if smallest > budget:
        raise _too_little(config, smallest=smallest, budget=budget)
    if config.receptive_field_lr_px is None:
        return Plan("none", size.height, size.height, smallest)
    # Higher strips compute less beyond their own rows, but whose maps fill memory are no faster.
    enough = min(budget, max(_WHOLE_LIMIT_BYTES, 2 * smallest))
    halos = 2 * system_halo_rows(config)
    step = config.row_multiple
    rows = (enough - _FIXED_BYTES) // row_bytes
    if rows < size.height:  # else no strip reads beyond the image
        rows -= halos
    rows = min(rows, size.height if strip_rows is None else strip_rows)
    if rows < size.height:  # else the last rows, less than a multiple, are one strip with the rest
        rows = min(max(rows // step, 1) * step, size.height)
    read = min(rows + halos, size.height)
    return Plan("none", read, rows, read * row_bytes + _FIXED_BYTES)


def min_system_bytes(config: SystemConfig, size: Size) -> int:
    """Return the least memory that an image can run in: one strip, or all of it."""
    rows = size.height
    if config.receptive_field_lr_px is not None:
        rows = min(config.row_multiple + 2 * system_halo_rows(config), rows)
    return rows * _system_row_bytes(config, size) + _FIXED_BYTES


def system_halo_rows(config: SystemConfig) -> int:
    """Return the LR rows beyond a strip, on each side, with which it is exact and in phase."""
    step = config.row_multiple
    return -(-(config.receptive_field_lr_px or 0) // step) * step


def _system_row_bytes(config: SystemConfig, size: Size) -> int:
    values = _SYSTEM_SHARE * config.values_per_lr_px + 6 * config.scale**2  # SR, twice
    return int(size.width * 4 * values) + 1


def _too_little(config: SystemConfig, *, smallest: int, budget: int) -> UsageError:
    """Return the error that memory is too small for even the smallest part of an image."""
    left, needed = format_bytes(max(budget, 0)), format_bytes(smallest)
    part = "for the image, which this network sees as a whole and needs"
    if config.receptive_field_lr_px is not None:
        seen = f"{config.receptive_field_lr_px} rows to each side"
        part = f"for a strip of the image, which with {seen} needs"
    remedy = f"Allow {format_bytes(smallest - budget)} more, or enlarge a smaller image."
    return UsageError("memory", f"leaves {left} {part} {needed}", remedy)


def _strip_rows(need: MemoryEstimate, budget: int, *, at_most: int) -> int:
    """Return the rows of the largest strip that fits a budget, but at least one."""
    rows = (budget - _FIXED_BYTES) // need.strip_row - need.strip_halo_rows
    return max(1, min(rows, at_most))


def plan_strips(height: int, *, strip_rows: int, halo_rows: int, start: int = 0) -> list[Strip]:
    """Return strips that cover an image, from top to bottom.

    Args:
        height: LR rows of the image.
        strip_rows: LR rows of a strip; the last one may have fewer.
        halo_rows: LR rows beyond a strip, on each side, that its SR depends on.
        start: the first LR row to write.
    """
    firsts = range(start, height, strip_rows)
    lasts = [min(first + strip_rows, height) for first in firsts]
    return [
        Strip(first, last, max(first - halo_rows, 0), min(last + halo_rows, height))
        for first, last in zip(firsts, lasts, strict=True)
    ]


def default_strip_rows(scale: int) -> int:
    """Return the LR rows of a strip where memory allows: 64 SR rows."""
    return _STRIP_SR_ROWS // scale
