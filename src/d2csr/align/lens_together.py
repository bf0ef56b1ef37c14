"""Distortion of a lens, from all pairs taken with it: what the pairs fitted apart agree on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from d2csr.align.lens import Lens
from d2csr.align.lens_source import LensChoice
from d2csr.align.outcome import Outcome

Group = tuple[object, ...]


def group_of(outcome: Outcome | None) -> Group:
    """Return what pairs of one lens at one zoom share: camera and both focal lengths."""
    if outcome is None:
        return ()
    return (outcome.camera, *outcome.transform.get("focal_mm", ()))


def estimated(outcomes: Sequence[Outcome]) -> dict[Group, LensChoice]:
    """Return the lenses of each group: the median of every coefficient over accepted pairs.

    The median, because a pair with little texture or much parallax may be far off. A group without
    an accepted pair gets straight lenses.
    """
    pairs: dict[Group, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        pairs[group_of(outcome)].append(outcome)
    return {
        group: LensChoice("given", *(_median(members, end) for end in ("wide_lens", "tele_lens")))
        for group, members in pairs.items()
    }


def _median(outcomes: Sequence[Outcome], end: str) -> Lens:
    found = [each.transform[end] for each in outcomes if each.verdict == "accepted"]
    if not found:
        return Lens()
    names = [each.name for each in fields(Lens)]
    return Lens(**{name: float(np.median([lens[name] for lens in found])) for name in names})
