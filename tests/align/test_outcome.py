"""Advice about rejected pairs, by main cause."""

import re
from pathlib import Path

import d2csr.align
from d2csr.align.outcome import ADVICE, PairResult, Verdict, advise
from d2csr.align.pairing import PhotoPair
from d2csr.align.registration.quality import LIMITS

PHOTOS = PhotoPair("one", "one", Path("one_wide.jpg"), Path("one_tele.jpg"))


def rejected(cause: str) -> PairResult:
    return PairResult("key", "Cam_001", PHOTOS, "Cam", Verdict("rejected", cause, "some reason"))


def test_every_cause_of_a_rejection_has_one_advice():
    source = "".join(path.read_text() for path in Path(d2csr.align.__file__).parent.rglob("*.py"))
    raised = re.findall(r'PairRejectedError\(\s*"(\w+)"', source)
    assert {"features", "overlap", "ratio"} <= set(raised)
    advised = [cause for *_, causes in ADVICE for cause in causes]
    assert sorted(advised) == sorted({*raised, *LIMITS})


def test_the_most_frequent_cause_comes_first_and_the_unknown_ones_are_left_out():
    causes = ("detail", "parallax", "trusted_share", "of the future")
    results = [rejected(cause) for cause in causes]
    accepted = PairResult("key", "Cam_002", PHOTOS, "Cam", Verdict("accepted"))
    depth, focus = advise([*results, accepted])
    assert depth.startswith("2 rejected: too much depth close by")
    assert "stand further away" in depth
    assert focus.startswith("1 rejected: out of focus or shaken; hold still")
    assert advise([accepted]) == []
