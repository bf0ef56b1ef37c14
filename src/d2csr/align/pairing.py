"""Pairing of the photographs in a folder, by their names or by focal length and time in EXIF."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from d2csr.align.camera_info import MIN_RATIO, CameraInfo, focal_ratio, read_camera_info
from d2csr.align.photo import is_photo_name, is_raw_name
from d2csr.core.errors import DataError, ImageError, format_beyond

MAX_RATIO = 2.0  # of the scale; a longer tele lens shows too little of the wide image
MAX_INTERVAL_S = 180.0  # between the photographs of a pair
SCENE_INTERVAL_S = 20.0  # pairs taken closer together show one scene

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
        name: identifies the pair in its folder.
        scene: pairs of one scene belong to the same split.
        wide: photograph that becomes LR.
        tele: photograph that becomes HR.
    """

    name: str
    scene: str
    wide: Path
    tele: Path


@dataclass(frozen=True)
class PairingResult:
    """Pairs and unpaired photographs of a folder.

    Attributes:
        pairs: photographs of one scene each.
        unpaired: photographs without a partner, with the reason.
        existing: names of pairs that earlier calls made, which stay in the set unchanged.
    """

    pairs: tuple[PhotoPair, ...]
    unpaired: tuple[tuple[Path, str], ...]
    existing: tuple[str, ...] = ()


def find_pairs(folder: Path, *, scale: int) -> PairingResult:
    """Return the pairs in a folder and its subfolders, sorted by name.

    Photographs are paired by name first: `NAME_wide.jpg` and `NAME_tele.jpg` (or lr and hr, short
    and long, as prefix, suffix or folder). The others are paired by focal length and time.

    Raises:
        DataError: there is no pair. If the focal lengths are too close, it names the largest scale
            that they allow.
    """
    if not folder.is_dir():
        raise DataError(folder, "is not a folder", "Give the folder of the photographs.")
    photos = [path for path in sorted(folder.rglob("*")) if _is_photo(path, folder)]
    named, rest = _pair_by_name(photos, folder)
    shots, unpaired = _read_shots(_drop_jpeg_beside_raw(rest))
    timed, without_partner = _pair_by_time(shots, folder, scale=scale)
    unpaired = sorted(unpaired + without_partner)
    pairs = tuple(sorted((*named, *timed), key=lambda pair: pair.name))
    if not pairs:
        _check_zoom(shots, folder, scale=scale)
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in unpaired[:5])
        problem = f"has no pair of photographs ({reasons or 'no photographs at all'})"
        remedy = "Name them NAME_wide and NAME_tele, or use photographs with EXIF."
        raise DataError(folder, problem, remedy=remedy)
    return PairingResult(pairs, tuple(unpaired))


def _is_photo(path: Path, folder: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return is_photo_name(path) and not is_hidden and path.is_file()


def _pair_by_name(photos: Sequence[Path], folder: Path) -> tuple[list[PhotoPair], list[Path]]:
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: {"wide": [], "tele": []})
    rest = []
    for path in photos:
        named = _parse_name(path, folder)
        if named is None:
            rest.append(path)
        else:
            name, role = named
            found[name][role].append(path)
    pairs = []
    for name, roles in sorted(found.items()):
        if roles["wide"] and roles["tele"]:
            wide, tele = (_prefer_raw(roles[role]) for role in ("wide", "tele"))
            pairs.append(PhotoPair(name, name, wide, tele))
        else:
            rest += roles["wide"] + roles["tele"]
    return pairs, sorted(rest)


def _parse_name(path: Path, folder: Path) -> tuple[str, str] | None:
    """Return the name of the pair and the role of a file in it, or None without a role."""
    parts = list(path.relative_to(folder).parts[:-1])
    match = _NAMED.fullmatch(path.stem)
    if match:
        role = match["last"] or match["first"]
        own = match["before"] if match["last"] else match["after"]
        return "/".join([*parts, own or "pair"]), _role(role)
    for index, part in enumerate(parts):
        if part.lower() in (*_WIDE, *_TELE):
            return "/".join([*parts[:index], *parts[index + 1 :], path.stem]), _role(part)
    return None


def _role(word: str) -> str:
    return "wide" if word.lower() in _WIDE else "tele"


def _prefer_raw(paths: Iterable[Path]) -> Path:
    """Return the RAW file of a photograph that was saved twice."""
    return min(paths, key=lambda path: (not is_raw_name(path), path.name))


def _drop_jpeg_beside_raw(photos: Iterable[Path]) -> list[Path]:
    same: dict[Path, list[Path]] = defaultdict(list)
    for path in photos:
        same[path.with_suffix("")].append(path)
    return [
        path
        for paths in same.values()
        for path in ([_prefer_raw(paths)] if any(map(is_raw_name, paths)) else paths)
    ]


@dataclass(frozen=True)
class _Shot:
    """A photograph with the time and focal length that pair it."""

    path: Path
    camera: CameraInfo
    focal: float
    taken: datetime

    def seconds_to(self, other: "_Shot") -> float:
        """Return the time between two photographs."""
        return abs((self.taken - other.taken).total_seconds())


def _read_shots(photos: Iterable[Path]) -> tuple[list[_Shot], list[tuple[Path, str]]]:
    """Return photographs with focal length and time, and the others with the reason."""
    shots, unpaired = [], []
    for path in photos:
        try:
            camera = read_camera_info(path)
        except ImageError as error:
            unpaired.append((path, error.problem))
            continue
        if not camera.focal:
            unpaired.append((path, "EXIF has no focal length"))
        elif camera.taken is None:
            unpaired.append((path, "EXIF has no time"))
        else:
            shots.append(_Shot(path, camera, camera.focal, camera.taken))
    return shots, unpaired


def _pair_by_time(
    shots: Sequence[_Shot], folder: Path, *, scale: int
) -> tuple[list[PhotoPair], list[tuple[Path, str]]]:
    """Return pairs of suitable focal lengths, closest in time first, and the remaining photos."""
    candidates = sorted(
        (
            (wide.seconds_to(tele), wide.path, tele.path)
            for wide in shots
            for tele in shots
            if wide is not tele and _can_pair(wide, tele, scale=scale)
        ),
    )
    paired: set[Path] = set()
    chosen = []
    for _, wide, tele in candidates:
        if wide not in paired and tele not in paired:
            paired |= {wide, tele}
            chosen.append((wide, tele))
    reason = f"no partner within {MAX_INTERVAL_S:.0f} s at a focal length {scale} times its own"
    unpaired = [(shot.path, reason) for shot in shots if shot.path not in paired]
    return _assign_scenes(chosen, {shot.path: shot for shot in shots}, folder=folder), unpaired


def _can_pair(wide: _Shot, tele: _Shot, *, scale: int) -> bool:
    ratio = focal_ratio(wide.camera, tele.camera)
    is_near = wide.seconds_to(tele) <= MAX_INTERVAL_S and wide.path.parent == tele.path.parent
    return ratio is not None and MIN_RATIO * scale <= ratio <= MAX_RATIO * scale and is_near


def _check_zoom(shots: Sequence[_Shot], folder: Path, *, scale: int) -> None:
    """Check that the focal lengths of a folder without pairs span the scale.

    Raises:
        DataError: they don't.
    """
    focal = [shot.focal for shot in shots]
    if len(focal) < 2 or max(focal) / min(focal) >= MIN_RATIO * scale:
        return
    ratio = max(focal) / min(focal)
    largest = int(ratio / MIN_RATIO)
    shown = format_beyond(ratio, MIN_RATIO * scale, spec=".2f")
    problem = f"has focal lengths of ratio {shown}, below {MIN_RATIO:g} times the scale {scale}"
    remedy = f"The largest possible scale is {largest}." if largest >= 2 else "Zoom in farther."
    raise DataError(folder, problem, remedy)


def _assign_scenes(
    chosen: Sequence[tuple[Path, Path]], shots: dict[Path, _Shot], *, folder: Path
) -> list[PhotoPair]:
    """Return pairs named by their wide photographs; those taken together share a scene."""
    pairs: list[PhotoPair] = []
    order = sorted(chosen, key=lambda paths: shots[paths[0]].taken)
    for number, (wide, tele) in enumerate(order):
        name = wide.relative_to(folder).with_suffix("").as_posix()
        scene = name
        if number:
            before = order[number - 1]
            gap_s = min(shots[a].seconds_to(shots[b]) for a in before for b in (wide, tele))
            scene = pairs[-1].scene if gap_s < SCENE_INTERVAL_S else name
        pairs.append(PhotoPair(name, scene, wide, tele))
    return pairs
