"""Presets: every kind makes sound pairs whose draws are recorded, the same for the same seed."""

import numpy as np
import pytest

from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.core.manifest import read_manifest
from d2csr.data.validation import check_pairs
from d2csr.images.reader import read_rgb8
from d2csr.images.resize import resize_bicubic
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.outputs import kind_name
from d2csr.simulate.presets import PRESETS
from d2csr.simulate.scene import Procedural

SCENES = [Procedural(Size(150, 140), (0, number)) for number in range(3)]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_makes_sound_pairs_of_its_kinds(preset, tmp_path):
    options = SimulationOptions(2, mixture=PRESETS[preset], shots=2, val=0.0, test=0.0, seed=3)
    simulate(SCENES, tmp_path / "one", options=options)
    simulate(SCENES, tmp_path / "two", options=options)
    manifest = read_manifest(tmp_path / "one" / "manifest.json")
    assert check_pairs(manifest, patch_px=16) == []
    assert {pair.camera for pair in manifest} <= {kind_name(kind) for _, kind in PRESETS[preset]}
    assert len({str(pair.transform) for pair in manifest}) == 6
    for pair in manifest:
        assert pair.lr.read_bytes() == (tmp_path / "two" / pair.split / pair.lr.name).read_bytes()
        lr, reduced = (
            image.astype(float)
            for image in (read_rgb8(pair.lr), resize_bicubic(read_rgb8(pair.hr), scale=0.5))
        )
        assert np.abs(lr - reduced).mean() < 40  # the same picture


def test_kinds_are_drawn_by_their_shares(tmp_path):
    kinds = tuple(
        (share, kind) for share, (_, kind) in zip((0.75, 0.25), PRESETS["camera"][:2], strict=True)
    )
    options = SimulationOptions(2, mixture=kinds, val=0.0, test=0.0)
    jobs = _jobs([Procedural(Size(64, 64), (0, n)) for n in range(1000)], options)
    slr = sum(kind_name(job.kind) == "Slr" for job in jobs)
    assert abs(slr - 750) < 5 * np.sqrt(1000 * 0.75 * 0.25)


def _jobs(sources, options):
    from d2csr.simulate import generate

    return generate._plan_jobs(sources, options)


def test_splits_are_those_of_the_scenes_whatever_the_preset(tmp_path):
    scenes = [Procedural(Size(140, 140), (0, number)) for number in range(8)]
    found = {
        preset: [
            (job.source.name, job.split)
            for job in _jobs(
                scenes, SimulationOptions(2, mixture=PRESETS[preset], val=0.25, test=0.25, seed=1)
            )
        ]
        for preset in PRESETS
    }
    assert len({str(each) for each in found.values()}) == 1
    assert {split for _, split in found["web"]} == {"train", "val", "test"}


def test_captures_have_no_preset(tmp_path):
    options = SimulationOptions(2, mixture=PRESETS["web"], captures=True)
    with pytest.raises(UsageError, match="makes pairs, not captures"):
        simulate(SCENES, tmp_path / "out", options=options)
