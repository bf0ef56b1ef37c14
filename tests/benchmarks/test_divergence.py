"""The divergence study: equal work, equal time, its measures, and the whole of it at tiny size."""

import importlib
import json
import math
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from d2csr.core.errors import UsageError
from d2csr.core.network_cost import network_cost
from d2csr.engine.tail import EngineOutput
from d2csr.metrics.protocols import score
from d2csr.training.train import train
from tests.training.conftest import write_pairs

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TINY = {"channels": 4, "groups": 1, "blocks": 1, "convergence_channels": 4}


@pytest.fixture
def load(monkeypatch, data_city100):
    """Return the function that imports a part of the study by its name."""
    monkeypatch.setenv("D2CSR_DATA", str(data_city100))
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture(scope="session")
def data_city100(tmp_path_factory):
    """Return a data folder with a few generated pairs where City100's lie."""
    folder = tmp_path_factory.mktemp("data")
    for seed, (split, count) in enumerate({"train": 2, "val": 1, "test": 1}.items()):
        pairs = folder / "city100" / "nikon_d5500_x3" / split
        write_pairs(pairs, count, scale=3, seed=seed)
        for path in list(pairs.iterdir()):
            path.rename(path.with_name(f"{split}_{path.name}"))
    return folder


@pytest.mark.parametrize("scale", [3, 4])
def test_every_variant_has_the_training_work_of_the_first(load, scale):
    variants = load("divergence_study.variants")
    base = variants.read_base(scale)
    work = {}
    for name, variant in variants.VARIANTS.items():
        for model in variants.candidates(base.model, variant)[:12:4]:
            recipes = variants.make_recipes(base, name, model=model, steps=5000, seed=1)
            assert len(recipes) == variant.networks
            work.setdefault(name, []).append(sum(map(variants.training_pflop, recipes.values())))
    (expected,) = work["triplet"]
    for name, found in work.items():
        assert found == pytest.approx([expected] * len(found), rel=1e-3), name


def test_the_work_of_the_base_is_that_counted_by_hand(load):
    """5000 steps of D at three passes, 1000 of C at three with D at one; 8 crops of 40x40."""
    variants = load("divergence_study.variants")
    base = variants.read_base(3)
    cost = network_cost(base.model, collapsed=True)
    tree = sum(each.flop_per_lr_px for each in (*cost.trunk, *cost.tails))
    fusion = sum(each.flop_per_lr_px for each in cost.convergence)
    by_hand = 8 * 40 * 40 * (5000 * 3 * tree + 1000 * (tree + 3 * fusion))
    (recipe,) = variants.make_recipes(
        base, "triplet", model=base.model, steps=5000, seed=1
    ).values()
    assert variants.training_pflop(recipe) == pytest.approx(by_hand / 1e15, rel=1e-12)


def test_variants_differ_in_what_their_names_tell_and_networks_in_their_seeds(load):
    variants = load("divergence_study.variants")
    base = variants.read_base(4)

    def recipes(name, model=base.model):
        return list(variants.make_recipes(base, name, model=model, steps=100, seed=2).values())

    (triplet,), (off,), (wta,) = map(recipes, ("triplet", "no_triplet", "wta"))
    assert (triplet.loss.alpha.alpha, off.loss.alpha.alpha, wta.loss.alpha.alpha) == (0.02, 0, 0)
    assert (wta.loss.divergence, wta.loss.wta.patch_px) == ("wta", 16)
    assert triplet.model_copy(update={"name": off.name, "loss": off.loss}) == off
    four = recipes("four", variants.candidates(base.model, variants.VARIANTS["four"])[0])
    assert [each.model.leaves for each in four] == [1] * 4
    assert len({each.seed for each in (*four, triplet)}) == 4  # the first has the tree's seed
    assert [stage.kind for stage in four[0].stages] == ["divergence"]


def test_the_size_of_equal_time_is_the_nearest(load):
    """With a time that is proportional to the groups of the trunk, the answer is known."""
    equal_time, variants = load("divergence_study.equal_time"), load("divergence_study.variants")
    base = variants.read_base(3).model
    sizes = variants.candidates(base, variants.VARIANTS["plain_mean"])
    assert [each.trunk_groups for each in sizes] == list(range(20))
    for groups in (0, 7.4, 7.6, 19, 40):

        def time(networks, groups=groups):
            return [[groups + 1.0 if each == base else each.trunk_groups + 1.0] * 3
                    for each in networks]  # fmt: skip

        found = equal_time.find_equal(sizes, base, networks=1, time=time)
        assert found.trunk_groups == min(round(groups), 19)
        halves = equal_time.find_equal(sizes, base, networks=2, time=time)
        assert abs(2 * (halves.trunk_groups + 1) - (groups + 1)) <= 1 or groups in (0, 40)


def test_the_engine_takes_more_time_for_more_operations(load, monkeypatch):
    equal_time, variants = load("divergence_study.equal_time"), load("divergence_study.variants")
    monkeypatch.setattr(equal_time, "SIDE_PX", 96)
    small = replace(variants.read_base(3).model, **TINY)
    large = replace(small, trunk_groups=20)
    one, other = equal_time.engine_seconds(3)([small, large])
    assert len(one) == len(other) == 3
    assert 0 < min(one) < min(other)


def test_a_time_that_is_not_equal_is_refused(load):
    equal_time, variants = load("divergence_study.equal_time"), load("divergence_study.variants")
    base = variants.read_base(3).model
    models = {"triplet": base, "no_triplet": base, "four": replace(base, channels=8)}
    networks = {"triplet": 1, "no_triplet": 1, "four": 4}

    def timed(seconds):
        return equal_time.time_together(
            models, base="triplet", networks=networks,
            time=lambda unique: [[1.0] * 3 if each == base else [seconds] * 3 for each in unique],
        )  # fmt: skip

    found = timed(0.26)
    assert (found["four"].ratio, found["four"].time_ms) == pytest.approx((1.04, 1040))
    assert found["no_triplet"] == found["triplet"]
    assert (
        equal_time.TimedNetwork.from_dict(json.loads(json.dumps(found["four"].to_dict())))
        == (found["four"])
    )
    with pytest.raises(UsageError, match=r"within 5%: four 1\.080"):
        timed(0.27)


def outputs(leaves, size=(20, 26), seed=0):
    """Return random predictions around an HR image, their mean as SR, and HR."""
    random = np.random.default_rng(seed)
    hr = random.integers(40, 216, (*size, 3), dtype=np.uint8)
    noise = random.normal(0, 0.05, (leaves, *size, 3))
    predictions = (hr / 255 + noise).astype(np.float32)
    weights = np.full((leaves, *size), 1 / leaves, np.float32)
    return EngineOutput(predictions.mean(0), predictions, weights), hr


def test_the_oracle_takes_the_prediction_nearest_to_hr_in_each_patch(load):
    measures = load("divergence_study.measures")
    output, hr = outputs(3)
    found = measures.best_patches(output.predictions, hr, side_px=8)
    for top in range(0, 20, 8):
        for left in range(0, 26, 8):
            errors = []
            for image in output.predictions:
                total = 0.0
                for y in range(top, min(top + 8, 20)):
                    for x in range(left, min(left + 8, 26)):
                        difference = image[y, x].astype(float) * 255 - hr[y, x]
                        total += float(np.dot(difference, (65.481, 128.553, 24.966))) ** 2
                errors.append(total)
            patch = np.s_[top : top + 8, left : left + 8]
            assert np.array_equal(found[patch], output.predictions[np.argmin(errors)][patch])


def test_the_measures_of_an_image_are_those_of_the_library(load):
    measures = load("divergence_study.measures")
    output, hr = outputs(4, size=(60, 66))
    found = measures.measure_image(output, hr, name="one", scale=3)
    assert found.psnr_db == score(output.sr, hr, protocol="y", scale=3).psnr_db
    best = measures.best_patches(output.predictions, hr, side_px=24)
    assert found.oracle_gain_db == pytest.approx(
        score(best, hr, protocol="y", scale=3).psnr_db - found.psnr_db
    )
    expected = 255 * np.sqrt(output.predictions.var(axis=0).mean(axis=2)).mean()
    assert found.disagreement_levels == pytest.approx(expected, rel=1e-4)
    alone = output._replace(predictions=output.predictions[:1], weights=output.weights[:1])
    assert measures.measure_image(alone, hr, name="one", scale=3)[2:5] == (None, None, None)


def test_differences_are_paired_over_images_of_the_same_seeds(load):
    measures = load("divergence_study.measures")

    def runs(values):
        return {seed: [measures.ImageMeasures(str(n), db, None, None, None, 0.5)
                       for n, db in enumerate(row)] for seed, row in values.items()}  # fmt: skip

    ours = runs({1: [30.0, 20.0, 25.0], 2: [30.2, 20.2, 25.2], 3: [99.0, 99.0, 99.0]})
    theirs = runs({1: [29.0, 19.0, 24.0], 2: [29.4, 19.4, 24.4]})
    found = measures.compare(ours, theirs)
    assert found["seeds"] == [1, 2]
    assert found["diff_psnr_db"] == pytest.approx(0.9)
    assert found["interval95"] == pytest.approx((0.9, 0.9))  # all images differ by the same
    assert measures.compare(runs({7: [1.0]}), theirs) is None
    summary = measures.summarize(theirs)
    assert (summary["least_psnr_db"], summary["most_psnr_db"]) == pytest.approx((24.0, 24.4))
    assert summary["psnr_db"] == pytest.approx(24.2)
    assert summary["oracle_gain_db"] is None


def test_a_signal_reaches_the_training_and_the_handlers_come_back(load, monkeypatch, tmp_path):
    divergence = load("divergence")
    trainer = tmp_path / "python"
    trainer.write_text(
        f"#!/bin/sh\ntrap 'touch {tmp_path}/saved; exit 0' TERM\n"
        f"touch {tmp_path}/started\nwhile :; do sleep 0.02; done\n"
    )
    trainer.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(trainer))

    def stop_when_started():
        while not (tmp_path / "started").exists():
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=stop_when_started)
    thread.start()
    divergence.train_once(tmp_path / "recipe.yaml", tmp_path / "run")
    thread.join()
    assert (tmp_path / "saved").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_training_that_fails_is_an_error(load, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(UsageError, match="exit code 1"):
        load("divergence").train_once(tmp_path / "recipe.yaml", tmp_path / "run")


@pytest.fixture
def study(load, monkeypatch, tmp_path):
    """Return the script, with a tiny base, all times equal, and training in this process."""
    divergence, variants = load("divergence"), load("divergence_study.variants")
    values = yaml.safe_load(variants.BASE.read_text(encoding="utf-8"))
    values["model"] |= TINY
    values["data"] |= {"patch_px": 8, "batch_size": 2}
    values |= {"compile": False, "precision": "fp32"}
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    monkeypatch.setattr(variants, "BASE", path)
    two = replace(variants.VARIANTS["four"], networks=2)
    monkeypatch.setitem(variants.VARIANTS, "four", two)
    monkeypatch.setenv("D2CSR_CACHE", str(tmp_path / "cache"))
    networks = {name: variant.networks for name, variant in variants.VARIANTS.items()}

    def equal(_rounds):
        def time(models):
            smallest = [each.leaves == 1 and each.channels == TINY["channels"] for each in models]
            return [[1.0 / (networks["four"] if small else 1)] * 3 for small in smallest]

        return time

    trained = []

    def train_here(recipe, folder):
        trained.append(folder.name)
        train(recipe, output=folder, resume=True)

    monkeypatch.setattr(divergence, "engine_seconds", equal)
    monkeypatch.setattr(divergence, "train_once", train_here)

    def run(*more):
        words = ["--output", tmp_path / "runs", "--results", tmp_path, "--charts", tmp_path]
        words += ["--only", "x3", "--seeds", "1", "--steps", "5", *more]
        monkeypatch.setattr("sys.argv", ["divergence.py", *map(str, words)])
        trained.clear()
        divergence.main()
        return list(trained)

    return run


def test_the_whole_study_at_tiny_size(study, tmp_path, capsys):
    assert study("--variants", "four") == ["triplet-1", "four-1-1", "four-1-2"]
    assert "x3 four: " in capsys.readouterr().out
    values = json.loads((tmp_path / "divergence-x3.json").read_text(encoding="utf-8"))
    assert str(tmp_path) not in json.dumps(values)
    four = values["rows"]["four"]
    assert [image["name"] for image in four["images"]["1"]] == ["val_s0", "test_s0"]
    assert math.isfinite(four["difference"]["diff_psnr_db"])
    assert values["rows"]["triplet"]["difference"] is None
    assert four["disagreement_levels"] > 0
    assert (tmp_path / "divergence-x3.webp").stat().st_size > 5_000
    # again, with a variant that isn't trained yet: nothing is trained, what was measured stays
    assert study("--variants", "four", "one_trunk", "--report") == []
    again = json.loads((tmp_path / "divergence-x3.json").read_text(encoding="utf-8"))
    assert again["rows"] == values["rows"]
    # the folder of another study is an error before any work
    with pytest.raises(SystemExit) as caught:
        study("--variants", "four", "--steps", "6")
    assert caught.value.code == 2
    assert "these keys differ: stages" in capsys.readouterr().err


def test_x4_needs_its_pairs(load, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["divergence.py", "--only", "x4"])
    with pytest.raises(SystemExit):
        load("divergence").main()
    assert "--data-x4 and --test-x4" in capsys.readouterr().err
