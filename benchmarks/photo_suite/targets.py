"""What the models for photographs were to reach, and whether they do."""

from collections.abc import Iterator, Mapping

import numpy as np

from photo_suite.scores import BICUBIC, SetScores, TargetResult

PHOTO = "photo"  # how the names of the models for photographs begin
# Least PSNR in dB: model, set, limit.
LEAST_DB = (
    ("photo-x4", "realsr", 27.5),
    ("photo-x4", "set5", 30.6),
    ("photo-x4", "set14", 27.5),
    ("photo-x4", "b100", 27.0),
)
# Least difference in dB: model, other system, set, limit.
LEAST_OVER_DB = (
    ("photo-base-x4", "photo-x4", "realsr", 0.15),
    ("photo-base-x4", "photo-x4", "set5", 0.3),
    *((f"photo-x{scale}", BICUBIC, "set5", 1.5) for scale in (2, 3)),
    *((f"photo-x{scale}", BICUBIC, "city100", 0.3) for scale in (2, 3)),
)
ABOVE_BICUBIC = ("photo-x2", "photo-x3")  # on every set, and not below it through JPEG 75
HARDEST_JPEG = "-jpeg75"
SHIFT_LEVELS = 1.0


def check_targets(sets: Mapping[str, SetScores]) -> list[TargetResult]:
    """Return all targets of the models and sets that were scored."""
    return [*_least(sets), *_least_over(sets), *_above_bicubic(sets), *_brightness(sets)]


def _least(sets: Mapping[str, SetScores]) -> Iterator[TargetResult]:
    for model, name, limit in LEAST_DB:
        value = _psnr_db(sets, model, name=name)
        if value is not None:
            text = f"{model}, {sets[name].title}: at least {limit} dB"
            yield TargetResult(text=text, value=value, is_met=value >= limit)


def _least_over(sets: Mapping[str, SetScores]) -> Iterator[TargetResult]:
    for model, other, name, limit in LEAST_OVER_DB:
        own, others = (_psnr_db(sets, each, name=name) for each in (model, other))
        if own is not None and others is not None:
            text = f"{model}, {sets[name].title}: at least {limit} dB over {other}"
            yield TargetResult(text=text, value=own - others, is_met=own - others >= limit)


def _above_bicubic(sets: Mapping[str, SetScores]) -> Iterator[TargetResult]:
    for model in ABOVE_BICUBIC:
        for name, scores in sets.items():
            own, bicubic = (_psnr_db(sets, each, name=name) for each in (model, BICUBIC))
            if own is not None and bicubic is not None:
                may_equal = name.endswith(HARDEST_JPEG)
                word = "not below" if may_equal else "above"
                is_met = own >= bicubic if may_equal else own > bicubic
                text = f"{model}, {scores.title}: {word} bicubic"
                yield TargetResult(text=text, value=own - bicubic, is_met=is_met)


def _brightness(sets: Mapping[str, SetScores]) -> Iterator[TargetResult]:
    """Yield the median over the images of all sets, for each model for photographs."""
    names = {name for scores in sets.values() for name in scores.systems}
    for model in sorted(name for name in names if name.startswith(PHOTO)):
        scored = [scores.systems[model] for scores in sets.values() if model in scores.systems]
        value = float(np.median([shift for each in scored for shift in each.shift_p95]))
        text = f"{model}: median over images of the brightness shift's 95th percentile at most "
        text += f"{SHIFT_LEVELS} levels"
        yield TargetResult(text=text, value=value, is_met=value <= SHIFT_LEVELS)


def _psnr_db(sets: Mapping[str, SetScores], model: str, *, name: str) -> float | None:
    """Return the mean PSNR of a system on a set; None if it wasn't scored."""
    scores = sets[name].systems.get(model) if name in sets else None
    return None if scores is None or scores.summary is None else scores.summary.psnr_db
