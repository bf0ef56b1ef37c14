"""Checks before training: pairs, splits, devices and run folder; each file is read once."""

import hashlib
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from d2csr.core.errors import DataError, ManifestError, RecipeError, UsageError
from d2csr.core.manifest import MANIFEST_NAME, write_manifest
from d2csr.data.sources import open_pairs
from d2csr.training.distributed import DistributedContext
from d2csr.training.monitor import read_runs
from d2csr.training.preflight import check_devices, lock_run, make_loader, open_split, prepare
from d2csr.training.recipe import read_recipe
from d2csr.training.train import replace_paths, train
from tests.training.conftest import recipe_values, tiny_recipe, write_pairs, write_recipe


def test_faulty_pairs_are_all_named_before_anything_is_written(tmp_path):
    pairs = write_pairs(tmp_path / "pairs", size_px=24)
    (pairs / "s0_HR.png").write_bytes(b"")
    (pairs / "s1_LR2.png").write_bytes((pairs / "s1_LR2.png").read_bytes()[:200])
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    with pytest.raises(DataError) as caught:
        train(recipe, output=tmp_path / "run")
    assert "s0_HR.png" in str(caught.value)
    assert "s1_LR2.png" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_manifests_of_files_elsewhere_are_refused_unless_allowed(tmp_path, pairs):
    elsewhere = tmp_path / "set" / MANIFEST_NAME
    write_manifest(open_pairs(pairs), elsewhere)
    recipe = tiny_recipe(elsewhere)
    with pytest.raises(ManifestError, match="outside its folder"):
        prepare(recipe, tmp_path / "run", resume=False)
    assert not (tmp_path / "run").exists()
    job = prepare(recipe, tmp_path / "run", resume=False, allow_outside=True)
    assert len(job.sources[0].pairs) == 3


def test_batch_statistics_are_refused_with_several_devices(tmp_path, pairs):
    values = recipe_values(pairs)
    values["loss"]["triplet"]["statistics"] = "batch"
    recipe = write_recipe(tmp_path / "r.yaml", values)
    with pytest.raises(RecipeError, match="statistics"):
        train(recipe, output=tmp_path / "run", devices=2)


def test_an_uneven_batch_is_refused_with_several_devices(tmp_path, pairs):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    with pytest.raises(RecipeError, match="multiple of 3"):
        train(recipe, output=tmp_path / "run", devices=3)


@pytest.mark.parametrize("world", [2, 3])
def test_torchruns_processes_count_as_devices(pairs, monkeypatch, world):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("WORLD_SIZE", str(world))
    statistics = {"statistics": "batch"} if world == 2 else {}
    recipe = tiny_recipe(pairs, loss={"triplet": {"margins": [0.5, 0.3], **statistics}})
    with pytest.raises(RecipeError, match="statistics" if world == 2 else "multiple of 3"):
        check_devices(recipe, 1)


@pytest.mark.parametrize("devices", [0, -1])
def test_no_devices_are_refused_before_anything_is_written(tmp_path, pairs, devices):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    with pytest.raises(UsageError, match="--devices"):
        train(recipe, output=tmp_path / "run", devices=devices)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_written_is_named(tmp_path, pairs):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be written"):
        train(recipe, output=tmp_path / "file" / "run")


def test_pairs_of_several_splits_without_the_wanted_one_are_refused(pairs, monkeypatch):
    manifest = open_pairs(pairs, scale=2)
    named = [
        replace(p, split=s) for p, s in zip(manifest.pairs, ["train", "test", "test"], strict=True)
    ]
    monkeypatch.setattr(
        "d2csr.training.preflight.open_pairs",
        lambda *_, **__: replace(manifest, pairs=tuple(named)),
    )
    with pytest.raises(DataError, match="no split val, but test, train"):
        open_split(str(pairs), scale=2, split="val")
    assert len(open_split(str(pairs), scale=2, split="test").pairs) == 2


@pytest.mark.parametrize("splits", ["test train", "test val", "val train"])
def test_pairs_of_one_split_are_not_used_as_another(pairs, splits):
    there, wanted = splits.split()
    shutil.move(pairs, pairs.with_name(there))
    with pytest.raises(DataError, match=rf"has no split {wanted}, but {there}\. Give pairs of"):
        open_split(str(pairs.with_name(there)), scale=2, split=wanted)


def test_training_on_a_test_split_is_refused_before_anything_is_written(tmp_path, pairs):
    shutil.move(pairs, tmp_path / "test")
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(tmp_path / "test"))
    with pytest.raises(DataError, match="has no split train, but test"):
        train(recipe, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validation_pairs_that_are_trained_on_are_refused(tmp_path, pairs):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    problem = r"pairs: 3 of its 3 pairs are trained on: s0, s1, s2\. Give other pairs with --valid"
    with pytest.raises(DataError, match=problem):
        train(recipe, output=tmp_path / "run", validate_on=tmp_path / "." / "pairs")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("validated_on", "given", "expected"),
    [
        ("same", {"train": "other"}, "other"),
        ("same", {"train": "other", "validate_on": "third"}, "third"),
        ("second", {"train": "other"}, "second"),
        ("same", {"validate_on": "third"}, "third"),
        (None, {"train": "other"}, None),
    ],
)
def test_other_training_pairs_are_validated_on_if_the_recipe_has_both_in_one_set(
    pairs, validated_on, given, expected
):
    recipe = tiny_recipe(pairs, data={"train": "same", "validate_on": validated_on})
    data = replace_paths(recipe, **{"train": None, "validate_on": None, **given}).data
    assert (data.train[0].path, data.validate_on) == (given.get("train", "same"), expected)


@pytest.mark.parametrize(("count", "is_few"), [(2, True), (8, False)])
def test_few_pairs_are_warned_of(tmp_path, capfd, count, is_few):
    pairs = write_pairs(tmp_path / "pairs", count)
    prepare(tiny_recipe(pairs), tmp_path / "run", resume=False)
    warning = f"warning: only {count} training pairs; a model that is to be kept needs fifty"
    assert (warning in capfd.readouterr().err) == is_few


def test_a_start_that_failed_leaves_a_folder_in_which_a_run_begins(tmp_path, pairs, monkeypatch):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    with monkeypatch.context() as patch:
        patch.setattr("d2csr.training.train.make_trainer", _raise_memory_error)
        with pytest.raises(MemoryError):
            train(recipe, output=tmp_path / "run")
    assert (tmp_path / "run" / "recipe.yaml").is_file()
    other = write_recipe(tmp_path / "r.yaml", recipe_values(pairs, seed=3))
    assert train(other, output=tmp_path / "run") is not None
    assert read_recipe(tmp_path / "run" / "recipe.yaml").seed == 3


def _raise_memory_error(*_: object, **__: object) -> None:
    raise MemoryError


def test_two_processes_do_not_train_in_one_folder(tmp_path, pairs):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    (tmp_path / "run").mkdir()
    with lock_run(tmp_path / "run"), pytest.raises(UsageError, match="another process is training"):
        train(recipe, output=tmp_path / "run")
    assert train(recipe, output=tmp_path / "run") is not None


@pytest.fixture
def hashed(monkeypatch):
    """Return a count of how often each file is hashed."""
    counts = Counter()
    digest = hashlib.file_digest

    def count(file, *arguments):
        counts[Path(file.name).name] += 1
        return digest(file, *arguments)

    monkeypatch.setattr(hashlib, "file_digest", count)
    return counts


def test_every_training_file_is_hashed_once(tmp_path, pairs, hashed):
    """Also if a manifest records hashes to compare with, and if the cache is built already."""
    write_manifest(open_pairs(pairs), pairs / MANIFEST_NAME)
    recipe = tiny_recipe(pairs)
    for run in ("first", "second"):
        hashed.clear()
        job = prepare(recipe, tmp_path / run, resume=False)
        assert hashed == {f"s{i}_{role}.png": 1 for i in range(3) for role in ("HR", "LR2")}
        make_loader(job, devices=DistributedContext(torch.device("cpu")))
        assert set(hashed.values()) == {1}


def test_a_process_needs_the_decoded_pixels_alone(tmp_path, pairs):
    job = prepare(tiny_recipe(pairs), tmp_path / "run", resume=False)
    shutil.rmtree(pairs)
    loader = make_loader(job, devices=DistributedContext(torch.device("cpu"), 1, 2))
    _, batch = next(loader.iter_from(0))
    assert batch.lr.shape == (2, 12, 12, 3)


def test_initial_weights_in_a_circle_are_one_error_before_training(tmp_path, pairs):
    """The finished bundle lists the runs behind it, which would never end."""
    first, second = tmp_path / "first", tmp_path / "second"
    values = recipe_values(pairs)
    values["stages"] = values["stages"][:1]
    recipe = write_recipe(tmp_path / "r.yaml", values)
    train(recipe, output=first)
    shutil.copytree(first, second)
    for folder, initial in ((first, second), (second, first)):
        write_recipe(folder / "recipe.yaml", {**values, "initial_weights": str(initial)})
    write_recipe(recipe, {**values, "initial_weights": str(first)})
    with pytest.raises(RecipeError, match=f"circle: {first} from {second} from {first}"):
        train(recipe, output=tmp_path / "third")
    assert not (tmp_path / "third").exists()
    with pytest.raises(RecipeError, match="Name a bundle or a checkpoint"):
        read_runs(second)
    shutil.rmtree(second)
    with pytest.raises(RecipeError, match=f"circle: {second} from {first} from {second}"):
        train(recipe, output=second)
