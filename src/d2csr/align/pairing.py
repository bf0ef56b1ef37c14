"""Captures: which photographs of a folder make pairs, told by their names or by EXIF."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from d2csr.align.camera_info import MIN_RATIO, CameraInfo, facts_of_file, focal_ratio
from d2csr.align.photo import is_photo_name, is_raw_name
from d2csr.core.errors import DataError

LONGEST_RATIO = 2.0  # of the scale; a longer tele lens shows too little of the wide image
APART_S = 180.0  # between the photographs of a pair
SCENE_S = 20.0  # pairs closer than this show one scene

_WIDE, _TELE = ("wide", "lr", "short"), ("tele", "hr", "long")
_ROLE = "|".join((*_WIDE, *_TELE))
_NAMED = re.compile(
    rf"(?:(?P<before>.*?)[_\-. ]?(?P<last>{_ROLE})\d?|(?P<first>{_ROLE})[_\-. ](?P<after>.+))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PhotoPair:
    """Two photographs of one scene.

    Attributes:
        name: by which the pair goes in lists, unique in its folder.
        scene: pairs of one scene go to one split.
        wide: photograph that becomes LR.
        tele: photograph that becomes HR.
    """

    name: str
    scene: str
    wide: Path
    tele: Path


@dataclass(frozen=True)
class PairingResult:
    """What a folder holds.

    Attributes:
        pairs: photographs of one scene.
        alone: photographs that found no partner, with the reason.
        kept: names of pairs that earlier calls made, and that stay in the set as they are.
    """

    pairs: tuple[PhotoPair, ...]
    unpaired: tuple[tuple[Path, str], ...]
    kept: tuple[str, ...] = ()


def find_pairs(folder: Path, *, scale: int) -> PairingResult:
    """Return the pairs in a folder and all below it, in the order of their names.

    Names tell first: `NAME_wide.jpg` beside `NAME_tele.jpg` (or lr and hr, short and long, in front
    or behind), or folders so called. What they don't tell is paired by focal length and time.

    Raises:
        DataError: no pair; where focal lengths are too near, naming the scale they allow.
    """
    if not folder.is_dir():
        raise DataError(folder, "is no folder", remedy="Give the folder of the photographs.")
    photos = [path for path in sorted(folder.rglob("*")) if _is_photo(path, folder)]
    named, rest = _by_name(photos, folder)
    timed, alone = _by_time(_one_of_raw_and_jpeg(rest), folder, scale=scale)
    pairs = tuple(sorted((*named, *timed), key=lambda capture: capture.name))
    if not pairs:
        _refuse_short_zoom(rest, folder, scale=scale)
        reason = "; ".join(f"{path.name}: {why}" for path, why in alone[:5]) or "it has none"
        problem = f"holds no pair of photographs ({reason})"
        remedy = "Name them NAME_wide and NAME_tele, or keep their EXIF."
        raise DataError(folder, problem, remedy=remedy)
    return PairingResult(pairs, tuple(alone))


def _is_photo(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return is_photo_name(path) and not hidden and path.is_file()


def _by_name(photos: Sequence[Path], folder: Path) -> tuple[list[PhotoPair], list[Path]]:
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: {"wide": [], "tele": []})
    rest = []
    for path in photos:
        told = _told(path, folder)
        if told is None:
            rest.append(path)
        else:
            found[told[0]][told[1]].append(path)
    captures = []
    for name, ends in sorted(found.items()):
        if ends["wide"] and ends["tele"]:
            wide, tele = (_preferred(ends[end]) for end in ("wide", "tele"))
            captures.append(PhotoPair(name, name, wide, tele))
        else:
            rest += ends["wide"] + ends["tele"]
    return captures, sorted(rest)


def _told(path: Path, folder: Path) -> tuple[str, str] | None:
    """Return the pair's name and this file's role in it; None where its name tells no role."""
    parts = list(path.relative_to(folder).parts[:-1])
    match = _NAMED.fullmatch(path.stem)
    if match:
        role = match["last"] or match["first"]
        own = match["before"] if match["last"] else match["after"]
        return "/".join([*parts, own or "pair"]), _role(role)
    for at, part in enumerate(parts):
        if part.lower() in (*_WIDE, *_TELE):
            return "/".join([*parts[:at], *parts[at + 1 :], path.stem]), _role(part)
    return None


def _role(word: str) -> str:
    return "wide" if word.lower() in _WIDE else "tele"


def _preferred(paths: Iterable[Path]) -> Path:
    """Return the RAW file where a photograph was saved twice."""
    return min(paths, key=lambda path: (not is_raw_name(path), path.name))


def _one_of_raw_and_jpeg(photos: Iterable[Path]) -> list[Path]:
    same: dict[Path, list[Path]] = defaultdict(list)
    for path in photos:
        same[path.with_suffix("")].append(path)
    return [
        path
        for paths in same.values()
        for path in ([_preferred(paths)] if any(map(is_raw_name, paths)) else paths)
    ]


@dataclass(frozen=True)
class _Taken:
    path: Path
    facts: CameraInfo

    def seconds_to(self, other: "_Taken") -> float:
        if self.facts.taken is None or other.facts.taken is None:
            return float("inf")
        return abs((self.facts.taken - other.facts.taken).total_seconds())


def _by_time(
    photos: Sequence[Path], folder: Path, *, scale: int
) -> tuple[list[PhotoPair], list[tuple[Path, str]]]:
    """Return pairs whose focal lengths bear the scale, nearest in time first, each photo once."""
    taken = [_Taken(path, facts_of_file(path)) for path in photos]
    alone = [(each.path, "EXIF tells no focal length") for each in taken if not each.facts.focal]
    alone += [
        (each.path, "EXIF tells no time")
        for each in taken
        if each.facts.focal and each.facts.taken is None
    ]
    usable = [each for each in taken if each.facts.focal and each.facts.taken is not None]
    options = sorted(
        (
            (wide.seconds_to(tele), wide.path, tele.path)
            for wide in usable
            for tele in usable
            if wide is not tele and _fits(wide, tele, scale=scale)
        ),
    )
    partner: dict[Path, Path] = {}
    chosen = []
    for _, wide, tele in options:
        if wide not in partner and tele not in partner:
            partner[wide], partner[tele] = tele, wide
            chosen.append((wide, tele))
    alone += [
        (each.path, f"no partner within {APART_S:.0f} s at a focal length {scale} times its own")
        for each in usable
        if each.path not in partner
    ]
    return _in_scenes(chosen, {each.path: each for each in usable}, folder=folder), sorted(alone)


def _fits(wide: _Taken, tele: _Taken, *, scale: int) -> bool:
    ratio = focal_ratio(wide.facts, tele.facts)
    near = wide.seconds_to(tele) <= APART_S and wide.path.parent == tele.path.parent
    return ratio is not None and MIN_RATIO * scale <= ratio <= LONGEST_RATIO * scale and near


def _refuse_short_zoom(photos: Iterable[Path], folder: Path, *, scale: int) -> None:
    facts = map(facts_of_file, photos)
    focal = [each.focal for each in facts if each.focal and each.taken is not None]
    if len(focal) < 2 or max(focal) / min(focal) >= MIN_RATIO * scale:
        return
    ratio = max(focal) / min(focal)
    largest = int(ratio / MIN_RATIO)
    problem = f"spans focal lengths of ratio {ratio:.2f}, below {MIN_RATIO:g} of scale {scale}"
    remedy = f"The largest honest scale is {largest}." if largest >= 2 else "Zoom in farther."
    raise DataError(folder, problem, remedy=remedy)


def _in_scenes(
    chosen: Sequence[tuple[Path, Path]], taken: dict[Path, _Taken], *, folder: Path
) -> list[PhotoPair]:
    """Return pairs named by their wide photographs; those taken at once share a scene."""
    captures: list[PhotoPair] = []
    order = sorted(chosen, key=lambda pair: taken[pair[0]].facts.taken or datetime.min)
    for number, (wide, tele) in enumerate(order):
        name = wide.relative_to(folder).with_suffix("").as_posix()
        scene = name
        if number:
            before = order[number - 1]
            gap = min(taken[a].seconds_to(taken[b]) for a in before for b in (wide, tele))
            scene = captures[-1].scene if gap < SCENE_S else name
        captures.append(PhotoPair(name, scene, wide, tele))
    return captures
