"""Folders to training sets: files on the disk, splits, resuming."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from d2csr.align import build
from d2csr.align.build import Workers, align_folder, align_pair, build_dataset, worker_count
from d2csr.align.dataset import DatasetLayout, split_scenes
from d2csr.align.outcome import read_result
from d2csr.align.pair_worker import PairJob, process_pair
from d2csr.align.pairing import PairingResult, PhotoPair
from d2csr.align.steps import Settings
from d2csr.core.errors import UsageError
from d2csr.core.files import sha256_file
from d2csr.core.manifest import read_manifest
from d2csr.data.validation import check_pairs
from d2csr.images.reader import read_rgb8, read_size

SETTINGS, LAYOUT, ONE = Settings(scale=3), DatasetLayout(scale=3), Workers(1)


@pytest.fixture(scope="module")
def photos(captures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good pairs, one of two scenes, one damaged, and an unpaired photograph."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("001_wide", "001_tele", "002_wide", "002_tele"):
        shutil.copy(captures / f"{name}.jpg", folder / f"{name}.jpg")
    shutil.copy(captures / "001_wide.jpg", folder / "003_wide.jpg")
    shutil.copy(captures / "002_tele.jpg", folder / "003_tele.jpg")
    shutil.copy(captures / "001_wide.jpg", folder / "004_wide.jpg")
    (folder / "004_tele.jpg").write_bytes((captures / "001_tele.jpg").read_bytes()[:9000])
    return folder


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sets") / "set"
    summary = align_folder(photos, out, settings=SETTINGS, layout=LAYOUT, workers=ONE)
    assert summary.exit_code == 1
    return out


def stored_results(out: Path) -> dict[str, dict]:
    rows = [json.loads(path.read_text()) for path in (out / build.WORK_NAME).glob("*.json")]
    return {row["photos"]["name"]: row for row in rows}


def test_set_is_read_by_training(made):
    manifest = read_manifest(made / "manifest.json")
    assert check_pairs(manifest, patch_px=16, mask_limit=0.5) == []
    assert [pair.name for pair in manifest] == ["Simulated_001", "Simulated_002"]
    for pair in manifest:
        assert pair.sha256_hr == sha256_file(pair.hr)
        assert pair.scores is not None
        assert pair.transform is not None
        assert pair.lr.name == f"{pair.name}_LR3.png"
        assert pair.lr.parent.name == pair.split


def test_lr_is_a_crop_of_the_photograph(made, photos):
    pair = read_manifest(made / "manifest.json").pairs[0]
    left, top, width, height = pair.transform["lr_region"]
    photo = read_rgb8(photos / "001_wide.jpg")
    np.testing.assert_array_equal(
        read_rgb8(pair.lr), photo[top : top + height, left : left + width]
    )


def test_rejected_and_failed_pairs_are_listed_with_their_reason(made):
    stored = stored_results(made)
    assert {name: row["verdict"]["status"] for name, row in stored.items()} == {
        "001": "accepted", "002": "accepted", "003": "rejected", "004": "failed",
    }  # fmt: skip
    assert stored["003"]["verdict"]["reason"]
    assert "004_tele.jpg" in stored["004"]["verdict"]["reason"]
    page = (made / "report.html").read_text()
    assert all(f"Simulated_00{number}" in page for number in (1, 2, 3, 4))


def test_report_is_self_contained(made):
    page = (made / "report.html").read_text()
    assert "http://www.w3.org/2000/svg" in page
    assert page.count("http") == page.count("http://www.w3.org/2000/svg")
    assert "{{" not in page


def test_second_run_processes_nothing(made, photos, monkeypatch):
    before = {path: path.read_bytes() for path in made.rglob("*.png")}
    monkeypatch.setattr(
        build, "process_pair", lambda job: pytest.fail(f"{job.name} processed again")
    )
    align_folder(photos, made, settings=SETTINGS, layout=LAYOUT, workers=ONE)
    assert {path: path.read_bytes() for path in made.rglob("*.png")} == before


def test_another_layout_moves_the_images(made, photos, tmp_path, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(made, out)
    monkeypatch.setattr(
        build, "process_pair", lambda job: pytest.fail(f"{job.name} processed again")
    )
    for layout in ("realsr", "splits"):
        align_folder(photos, out, settings=SETTINGS, layout=DatasetLayout(3, layout), workers=ONE)
        pairs = read_manifest(out / "manifest.json").pairs
        assert all(pair.hr.is_file() and pair.lr.is_file() for pair in pairs)
        if layout == "realsr":
            assert (
                pairs[0].hr.relative_to(out).as_posix() == "Simulated/Train/3/Simulated_001_HR.png"
            )


def test_killed_run_is_resumed(captures, tmp_path, monkeypatch):
    pairs = tuple(
        PhotoPair(name, name, captures / f"{name}_wide.jpg", captures / f"{name}_tele.jpg")
        for name in ("001", "002")
    )

    def until_second(job):
        if job.name.endswith("2"):
            raise KeyboardInterrupt
        return process_pair(job)

    monkeypatch.setattr(build, "process_pair", until_second)
    out = tmp_path / "set"
    every = {"settings": SETTINGS, "layout": LAYOUT, "workers": ONE}
    with pytest.raises(KeyboardInterrupt):
        build_dataset(PairingResult(pairs, ()), out, **every)
    done = []
    monkeypatch.setattr(
        build, "process_pair", lambda job: done.append(job.name) or process_pair(job)
    )
    summary = build_dataset(PairingResult(pairs, ()), out, **every)
    assert done == ["Simulated_002"]
    assert summary.count("accepted") == 2


def test_other_splits_and_other_settings_leave_no_stale_images(captures, tmp_path):
    """Three calls: images made again move to other splits, where those of the first ones lie."""
    folder, out = tmp_path / "photos", tmp_path / "set"
    folder.mkdir()
    for number, source in enumerate(("001", "002", "001"), 1):
        for end in ("wide", "tele"):
            shutil.copy(captures / f"{source}_{end}.jpg", folder / f"{number}_{end}.jpg")
    splits = set()
    for seed, settings in ((0, SETTINGS), (3, replace(SETTINGS, edge_px=6)), (3, SETTINGS)):
        for _ in range(2):  # the second one has nothing to do, and must do nothing
            align_folder(
                folder, out, settings=settings, layout=DatasetLayout(3, seed=seed), workers=ONE
            )
            manifest = read_manifest(out / "manifest.json")
            assert check_pairs(manifest, patch_px=16, mask_limit=1.0) == []
            named = {path for pair in manifest for path in (pair.lr, pair.hr, pair.mask) if path}
            assert {
                path for path in out.rglob("*.png") if build.WORK_NAME not in path.parts
            } == named
        splits.add(tuple(pair.split for pair in manifest))
    assert len(splits) > 1


def test_pairs_whose_photographs_are_gone_leave_the_set(captures, tmp_path, capsys):
    folder, out = tmp_path / "photos", tmp_path / "set"
    shutil.copytree(captures, folder, ignore=shutil.ignore_patterns(".truth", "truth.json"))
    align_folder(folder, out, settings=SETTINGS, layout=LAYOUT, workers=ONE)
    for path in folder.glob("002_*"):
        path.unlink()
    align_folder(folder, out, settings=SETTINGS, layout=LAYOUT, workers=ONE)
    assert "Simulated_002 (002) left the set: not among the photographs" in capsys.readouterr().err
    assert [pair.name for pair in read_manifest(out / "manifest.json")] == ["Simulated_001"]
    assert [path for path in out.rglob("Simulated_002*.png") if "_m" not in path.name] == []


def test_pairs_given_one_by_one_become_one_set(captures, tmp_path):
    out = tmp_path / "set"
    for name in ("001", "002", "001"):
        wide, tele = captures / f"{name}_wide.jpg", captures / f"{name}_tele.jpg"
        align_pair(wide, tele, output=out, settings=SETTINGS, layout=LAYOUT)
    manifest = read_manifest(out / "manifest.json")
    assert check_pairs(manifest, patch_px=16, mask_limit=1.0) == []
    assert sorted(pair.name for pair in manifest) == ["Simulated_001", "Simulated_002"]
    stored = stored_results(out)
    assert {stored[name]["name"] for name in ("001_wide", "002_wide")} == {
        "Simulated_001",
        "Simulated_002",
    }


def test_set_inside_the_folder_is_not_paired_again(captures, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(captures, folder, ignore=shutil.ignore_patterns(".truth", "truth.json"))
    for _ in range(2):
        summary = align_folder(
            folder, folder / "set", settings=SETTINGS, layout=LAYOUT, workers=ONE
        )
        assert summary.unpaired == ()
        assert len(summary.results) == 2


def test_folder_with_other_files_is_refused(photos, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="contains other files"):
        align_folder(photos, tmp_path, settings=SETTINGS, layout=LAYOUT, workers=ONE)


def test_set_of_another_scale_is_refused(made, photos):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    with pytest.raises(UsageError, match="contains a set of scale 3, not 2"):
        align_folder(
            photos, made, settings=Settings(scale=2), layout=DatasetLayout(scale=2), workers=ONE
        )
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_folder_of_the_photographs_is_refused_as_output(photos):
    with pytest.raises(UsageError, match="contains, the folder"):
        align_folder(photos, photos, settings=SETTINGS, layout=LAYOUT, workers=ONE)


def test_splits_follow_the_seed_and_keep_scenes_together():
    scenes = [f"scene {number}" for number in range(40)]
    first = split_scenes(scenes, LAYOUT)
    assert first == split_scenes(scenes[::-1] * 2, LAYOUT)
    assert first != split_scenes(scenes, DatasetLayout(3, seed=1))
    counts = {name: list(first.values()).count(name) for name in ("train", "val", "test")}
    assert counts == {"train": 32, "val": 4, "test": 4}


def test_few_scenes_still_fill_every_split():
    assert sorted(split_scenes(["a", "b", "c"], LAYOUT).values()) == ["test", "train", "val"]
    assert split_scenes(["a"], LAYOUT) == {"a": "train"}


def as_version_2(path: Path) -> None:
    """Rewrite a stored result in the flat form of version 2, whose similarity was `likeness`."""
    values = json.loads(path.read_text())
    photos, verdict = values["photos"], values["verdict"]
    scores = values["registration"]["scores"]
    order = [
        "residual_median_px",
        "residual_p95_px",
        "grid_error_px",
        "parallax",
        "similarity",
        "textured",
        "blur_minor",
        "blur_major",
        "detail",
        "exposure_ev",
        "colour_residual",
        "saturated",
        "overlap",
        "masked",
        "ratio",
        "features",
    ]
    old_names = {"similarity": "likeness"}
    old = {
        **{name: values[name] for name in ("key", "name", "camera", "notes")},
        **{name: photos[name] for name in ("scene", "wide", "tele")},
        "capture": photos["name"], "verdict": verdict["status"],
        "cause": verdict["cause"], "reason": verdict["reason"],
        **values["images"], **values["registration"],
        "scores": {old_names.get(name, name): scores[name] for name in order},
    }  # fmt: skip
    path.write_text(json.dumps(old))


def test_result_of_version_2_is_read(made, tmp_path):
    path = tmp_path / "result.json"
    shutil.copy(made / build.WORK_NAME / "Simulated_001.json", path)
    present = read_result(path)
    assert "similarity" in present.registration.scores
    as_version_2(path)
    assert "likeness" in path.read_text()
    for score in ("trusted_share", "trusted_mp"):  # version 2 didn't have them
        del present.registration.scores[score]
    assert read_result(path) == present


def test_pair_of_version_2_stays_in_a_set_that_grows(captures, tmp_path):
    out = tmp_path / "set"
    for name in ("001", "002"):
        wide, tele = captures / f"{name}_wide.jpg", captures / f"{name}_tele.jpg"
        align_pair(wide, tele, output=out, settings=SETTINGS, layout=LAYOUT)
        if name == "001":
            as_version_2(out / build.WORK_NAME / "Simulated_001.json")
    pairs = read_manifest(out / "manifest.json").pairs
    assert [pair.name for pair in pairs] == ["Simulated_001", "Simulated_002"]
    assert all("similarity" in pair.scores for pair in pairs)


def test_workers_fit_into_the_free_memory(captures, tmp_path, monkeypatch):
    """The limit of a control group counts, not only the memory of the machine."""
    photos = PhotoPair("1", "1", captures / "001_wide.jpg", captures / "001_tele.jpg")
    jobs = [PairJob(photos, f"{number}", "", SETTINGS, tmp_path) for number in range(4)]
    (width, height), (tele_width, tele_height) = map(read_size, (photos.wide, photos.tele))
    needed = (width * height + tele_width * tele_height) * build.BYTES_PER_PX
    for free, workers in ((10 * needed, 4), (2.6 * needed, 2), (0, 1)):
        monkeypatch.setattr(build, "free_bytes", lambda free=free: int(free))
        assert worker_count(jobs, 8) == workers


def test_pairs_are_processed_in_two_processes(photos, made, tmp_path):
    out = tmp_path / "set"
    align_folder(photos, out, settings=SETTINGS, layout=LAYOUT, workers=Workers(2))
    assert (out / "manifest.json").read_bytes() == (made / "manifest.json").read_bytes()
