"""Files in, files out: what is written, what is reported, and what is left alone."""

import errno
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from d2csr.core.bundle import Bundle
from d2csr.core.errors import BundleError, UsageError
from d2csr.engine.engine import Engine
from d2csr.engine.model import load
from d2csr.images.colors import heatmap
from d2csr.images.reader import read_rgb8
from d2csr.images.resize import enlarge_bicubic, resize_bicubic
from d2csr.images.writer import write_rgb8
from d2csr.upscale import dry_run
from d2csr.upscale.journal import JOURNAL_NAME
from d2csr.upscale.options import BatchOptions, OutputOptions, OutputSize
from d2csr.upscale.pipeline import to_image_error
from d2csr.upscale.run import upscale_files

LR8 = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
EVERYTHING = OutputOptions(predictions=True, weight_maps=True, disagreement=True, bicubic=True)


@pytest.fixture
def photos(tmp_path):
    """Return a folder with two images, one of them in a folder below."""
    write_rgb8(tmp_path / "photos" / "a.png", LR8)
    write_rgb8(tmp_path / "photos" / "deep" / "b.png", LR8[::-1])
    return tmp_path / "photos"


def _names(folder) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    return sorted(name for name in names if name != JOURNAL_NAME)


def test_every_image_of_a_folder_is_enlarged(bundle: Bundle, photos, tmp_path):
    summary = upscale_files([photos], tmp_path / "out", model=bundle)
    assert (summary.exit_code, summary.errors) == (0, ())
    assert _names(tmp_path / "out") == ["a.png", "deep/b.png"]
    wanted = load(bundle.folder).upscale(LR8[::-1])
    assert np.array_equal(read_rgb8(tmp_path / "out" / "deep" / "b.png"), wanted)


def test_all_extras_are_images_of_what_the_model_says(bundle: Bundle, photos, tmp_path):
    upscale_files([photos / "a.png"], tmp_path / "out", model=bundle, options=EVERYTHING)
    answer = load(bundle.folder).predict(LR8)
    numbered = [f"a_{what}_{leaf}.png" for what in ("prediction", "weight") for leaf in range(1, 5)]
    names = ["a.png", "a_bicubic.png", "a_disagreement.png", *numbered]
    assert _names(tmp_path / "out") == sorted(names)
    pixels = {name: read_rgb8(tmp_path / "out" / name) for name in names}
    assert np.array_equal(pixels["a.png"], answer.sr)
    assert np.array_equal(pixels["a_bicubic.png"], enlarge_bicubic(LR8, 2))
    assert np.array_equal(pixels["a_prediction_3.png"], answer.predictions[2])
    assert np.array_equal(pixels["a_weight_4.png"], heatmap(answer.weights[3], top=0.5))
    assert np.array_equal(pixels["a_disagreement.png"], heatmap(answer.disagreement, top=4.0))


def test_a_bad_file_is_reported_and_the_rest_go_on(bundle: Bundle, photos, tmp_path, capfd):
    (photos / "aa.png").write_bytes(b"")
    (photos / "ab.png").write_bytes((photos / "a.png").read_bytes()[:90])
    summary = upscale_files([photos, tmp_path / "gone"], tmp_path / "out", model=bundle)
    assert (summary.exit_code, len(summary.errors)) == (1, 3)
    assert _names(tmp_path / "out") == ["a.png", "deep/b.png"]
    told = capfd.readouterr().err
    assert [name for name in ("aa.png: is empty", "ab.png: ", "gone: ") if name not in told] == []
    assert summary.as_text().startswith("2 images enlarged x2 by tiny in ")
    assert summary.as_text().endswith(", 3 failed")


def test_where_nothing_works_the_exit_code_is_two(bundle: Bundle, tmp_path):
    assert upscale_files([tmp_path / "gone"], tmp_path / "out", model=bundle).exit_code == 2


def test_an_image_too_large_for_the_memory_is_reported(
    bundle: Bundle, photos, tmp_path, monkeypatch
):
    def strips(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Engine, "iter_strips", strips)
    summary = upscale_files([photos], tmp_path / "out", model=bundle)
    assert [error.problem for error in summary.errors] == [
        "is too large for this machine's memory"
    ] * 2


def test_an_image_that_fails_for_lack_of_memory_is_told_so_and_nothing_else():
    damaged = BundleError("trunk.onnx", "can't be compiled", "Copy the bundle again.")
    damaged.__cause__ = MemoryError()
    for error in (damaged, OSError(errno.ENOMEM, "Cannot allocate memory"), MemoryError()):
        told = str(to_image_error(Path("a.png"), error))
        assert told.startswith("a.png: is too large for this machine's memory. Use a smaller")


def test_a_limited_address_space_is_no_matter_if_it_is_large_enough(bundle, photos, tmp_path):
    """Below 1.3 GB a run failed whose threads each reserved a heap."""
    words = ["upscale", "-i", photos, "-o", tmp_path / "out", "-n", bundle.folder]
    limit = 700 * 10**6
    subprocess.run(
        [sys.executable, "-m", "d2csr", *map(str, words)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        check=True,
        capture_output=True,
    )
    upscale_files([photos], tmp_path / "right", model=bundle)
    for name in _names(tmp_path / "right"):
        right = (tmp_path / "right" / name).read_bytes()
        assert (tmp_path / "out" / name).read_bytes() == right


def test_a_failed_write_leaves_nothing_behind(bundle: Bundle, photos, tmp_path):
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    summary = upscale_files([photos / "a.png"], tmp_path / "out", model=bundle)
    assert [error.problem for error in summary.errors] == ["is a folder"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


RESUME = BatchOptions(resume=True)
DEEP = ("deep/b.png", "deep/b_x2.png")


def _states(summary) -> list[tuple[str, str]]:
    return sorted((Path(report.source).name, report.status) for report in summary.images)


def test_resume_leaves_out_what_is_done(bundle: Bundle, photos, tmp_path):
    out = tmp_path / "out"
    upscale_files([photos], out, model=bundle)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    summary = upscale_files([photos], out, model=bundle, batch=RESUME)
    assert _states(summary) == [("a.png", "unchanged"), ("b.png", "unchanged")]
    assert (summary.exit_code, summary.done) == (0, ())
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before


def test_with_overwrite_everything_is_done_again(bundle: Bundle, photos, tmp_path):
    upscale_files([photos], tmp_path / "out", model=bundle)
    batch = BatchOptions(overwrite=True)
    summary = upscale_files([photos], tmp_path / "out", model=bundle, batch=batch)
    assert _states(summary) == [("a.png", "done"), ("b.png", "done")]


def test_without_overwrite_finished_images_are_skipped(bundle: Bundle, photos, tmp_path):
    upscale_files([photos], tmp_path / "out", model=bundle)
    summary = upscale_files([photos], tmp_path / "out", model=bundle)
    assert _states(summary) == [("a.png", "unchanged"), ("b.png", "unchanged")]


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("name", ["a.png", "a_bicubic.png", "a_weight_4.png"])
def test_without_overwrite_no_file_is_replaced(bundle: Bundle, photos, tmp_path, name, dry_run):
    """Whether --resume is given or not: the file isn't one of an earlier run."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"the user's own")
    for resume in (False, True):
        batch = BatchOptions(resume=resume, dry_run=dry_run)
        summary = upscale_files(
            [photos / "a.png"], tmp_path / "out", model=bundle, options=EVERYTHING, batch=batch
        )
        assert [(Path(e.where).name, e.problem) for e in summary.errors] == [
            (name, "exists already")
        ]
        assert (summary.exit_code, _names(tmp_path / "out")) == (2, [name])
        assert (tmp_path / "out" / name).read_bytes() == b"the user's own"


def test_results_of_other_options_are_kept_without_resume(bundle: Bundle, photos, tmp_path):
    upscale_files([photos / "a.png"], tmp_path / "out", model=bundle)
    before = (tmp_path / "out" / "a.png").read_bytes()
    other = OutputOptions(strength=0.5)
    summary = upscale_files([photos / "a.png"], tmp_path / "out", model=bundle, options=other)
    assert [error.problem for error in summary.errors] == ["exists already"]
    assert (tmp_path / "out" / "a.png").read_bytes() == before


def test_a_file_named_as_output_is_replaced_with_overwrite_alone(bundle: Bundle, photos, tmp_path):
    out = tmp_path / "b.png"
    for source, overwrite in (("a.png", False), ("deep/b.png", False), ("deep/b.png", True)):
        batch = BatchOptions(overwrite=overwrite)
        summary = upscale_files([photos / source], out, model=bundle, batch=batch)
        assert summary.exit_code == (2 if (source, overwrite) == ("deep/b.png", False) else 0)
        turned = LR8[::-1] if overwrite else LR8
        assert np.array_equal(read_rgb8(out), load(bundle.folder).upscale(turned))


def test_without_an_output_results_lie_beside_and_are_known_later(
    bundle: Bundle, photos, tmp_path, capfd
):
    summary = upscale_files([photos], model=bundle)
    assert _names(photos) == ["a.png", "a_x2.png", "deep/.d2csr-done.jsonl", *DEEP]
    names = [str(photos / name) for name in ("a_x2.png", "deep/b_x2.png")]
    assert summary.describe_files() == ", ".join(names)
    write_rgb8(photos / "deep" / "new.png", LR8[:4])
    summary = upscale_files([photos], model=bundle)
    assert _states(summary) == [("a.png", "unchanged"), ("b.png", "unchanged"), ("new.png", "done")]
    assert capfd.readouterr().err.count("left out 2 results of earlier runs") == 1
    wanted = load(bundle.folder).upscale(LR8[::-1])
    assert np.array_equal(read_rgb8(photos / "deep" / "b_x2.png"), wanted)


def test_results_beside_their_originals_are_resumed(bundle: Bundle, photos, tmp_path):
    upscale_files([photos], model=bundle)
    write_rgb8(photos / "a.png", LR8[:4])
    summary = upscale_files([photos], model=bundle, batch=RESUME)
    assert _states(summary) == [("a.png", "done"), ("b.png", "unchanged")]
    assert read_rgb8(photos / "a_x2.png").shape == (8, 18, 3)


def test_a_cluster_needs_a_folder_for_the_results(bundle: Bundle, photos):
    with pytest.raises(UsageError, match="--output: is needed on a cluster"):
        upscale_files([photos], model=bundle, batch=BatchOptions(executor="ray"))


def test_more_than_three_files_are_named_by_the_first(bundle: Bundle, tmp_path):
    for name in "abcd":
        write_rgb8(tmp_path / f"{name}.png", LR8)
    files = upscale_files([tmp_path], model=bundle).describe_files()
    assert files == f"{tmp_path / 'a_x2.png'} and 3 more, each beside its original"


def test_resume_does_changed_images_and_lost_results_again(bundle: Bundle, photos, tmp_path):
    out = tmp_path / "out"
    write_rgb8(photos / "c.png", LR8[:, ::-1])
    upscale_files([photos], out, model=bundle)
    write_rgb8(photos / "a.png", LR8[:4])
    (out / "c.png").unlink()
    summary = upscale_files([photos], out, model=bundle, batch=RESUME)
    assert _states(summary) == [("a.png", "done"), ("b.png", "unchanged"), ("c.png", "done")]
    assert read_rgb8(out / "a.png").shape == (8, 18, 3)


@pytest.mark.parametrize(
    "other",
    [
        OutputOptions(bicubic=True),
        OutputOptions(self_ensemble=True),
        OutputOptions(strength=0.5),
        OutputOptions(size=OutputSize(outscale=1.5)),
    ],
)
def test_resume_does_all_again_with_other_settings(bundle: Bundle, photos, tmp_path, other):
    upscale_files([photos], tmp_path / "out", model=bundle)
    summary = upscale_files([photos], tmp_path / "out", model=bundle, options=other, batch=RESUME)
    assert _states(summary) == [("a.png", "done"), ("b.png", "done")]


def test_results_beside_their_originals_are_left_alone_when_photos_are_added(
    bundle: Bundle, photos, tmp_path, capfd
):
    beside = OutputOptions(suffix="_x2", bicubic=True)
    upscale_files([photos], photos, model=bundle, options=beside)
    write_rgb8(photos / "new.png", LR8)
    summary = upscale_files([photos], photos, model=bundle, options=beside, batch=RESUME)
    assert _states(summary) == [("a.png", "unchanged"), ("b.png", "unchanged"), ("new.png", "done")]
    assert summary.exit_code == 0
    assert capfd.readouterr().err.count("left out 4 results of earlier runs") == 1


def test_a_failed_image_is_tried_again(bundle: Bundle, photos, tmp_path):
    whole = (photos / "a.png").read_bytes()
    (photos / "a.png").write_bytes(whole[:70])
    assert upscale_files([photos], tmp_path / "out", model=bundle).exit_code == 1
    (photos / "a.png").write_bytes(whole)
    summary = upscale_files([photos], tmp_path / "out", model=bundle, batch=RESUME)
    assert _states(summary) == [("a.png", "done"), ("b.png", "unchanged")]


def test_a_single_file_has_nothing_to_resume(bundle: Bundle, photos, tmp_path):
    with pytest.raises(UsageError, match="can't be resumed"):
        upscale_files([photos / "a.png"], tmp_path / "b.png", model=bundle, batch=RESUME)


def test_a_single_file_leaves_no_list(bundle: Bundle, photos, tmp_path):
    upscale_files([photos / "a.png"], tmp_path / "to" / "b.png", model=bundle)
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["b.png"]


def test_any_size_is_written(bundle: Bundle, photos, tmp_path):
    soft = 100 + LR8 // 5  # nothing to clip, which is done at other places here and there
    write_rgb8(photos / "a.png", soft)
    wanted = OutputOptions(size=OutputSize(width=23), bicubic=True)
    upscale_files([photos / "a.png"], tmp_path / "out", model=bundle, options=wanted)
    sr, bicubic = (read_rgb8(tmp_path / "out" / name) for name in ("a.png", "a_bicubic.png"))
    assert sr.shape == bicubic.shape == (18, 23, 3)
    expected = resize_bicubic(load(bundle.folder).upscale(soft), scale=(18, 23))
    assert np.abs(sr.astype(int) - expected).max() <= 2  # which rounds three times, not once


def test_maps_of_predictions_are_of_the_models_own_size():
    with pytest.raises(UsageError, match="--outscale"):
        OutputOptions(disagreement=True, size=OutputSize(outscale=3.0))


def test_images_of_many_strips_and_many_images_come_out_in_order(bundle: Bundle, tmp_path):
    """More images than are decoded ahead or completed at once, each with several strips."""
    random = np.random.default_rng(3)
    images = [random.integers(0, 256, (70, 5, 3), dtype=np.uint8) for _ in range(7)]
    for k, image in enumerate(images):
        write_rgb8(tmp_path / "in" / f"{k}.png", image)
    summary = upscale_files([tmp_path / "in"], tmp_path / "out", model=bundle)
    assert summary.exit_code == 0
    model = load(bundle.folder)
    for k, image in enumerate(images):
        assert np.array_equal(read_rgb8(tmp_path / "out" / f"{k}.png"), model.upscale(image))


def test_a_result_too_large_for_its_format_is_told_once_and_before_work(
    bundle: Bundle, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        Engine, "iter_strips", lambda *_, **__: pytest.fail("computed all the same")
    )
    wanted = OutputOptions(size=OutputSize(width=100_000), ext="jpg")
    summary = upscale_files([photos / "a.png"], tmp_path / "out", model=bundle, options=wanted)
    assert [error.problem for error in summary.errors] == ["100000x77778 is too large for .jpg"]
    assert not list((tmp_path / "out").rglob("*.jpg"))


def test_a_dry_run_reports_a_plan_for_each_image_and_writes_nothing(
    bundle: Bundle, photos, tmp_path, capfd
):
    (photos / "bad.png").write_bytes(b"")
    (photos / "cut.png").write_bytes((photos / "a.png").read_bytes()[:-30])
    plan = BatchOptions(dry_run=True)
    summary = upscale_files([photos], tmp_path / "out", model=bundle, batch=plan)
    states = [("a.png", "to do"), ("b.png", "to do"), ("bad.png", "failed"), ("cut.png", "failed")]
    assert _states(summary) == states
    assert (summary.exit_code, summary.done) == (1, ())
    for report in summary.images:
        assert (report.plan is None) == (report.status == "failed")
    assert capfd.readouterr().out.count("MiB") == 2
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_of_images_above_the_free_memory(
    bundle: Bundle, photos, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(dry_run, "free_bytes", lambda: 1 << 20)
    upscale_files([photos], tmp_path / "out", model=bundle, batch=BatchOptions(dry_run=True))
    warnings = capfd.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert all(
        re.search(r"needs about \d+ MiB of memory, but 1 MiB are free$", w) for w in warnings
    )


def test_an_error_of_ours_is_not_hidden(bundle: Bundle, photos, tmp_path, monkeypatch):
    def strips(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "iter_strips", strips)
    with pytest.raises(ZeroDivisionError):
        upscale_files([photos], tmp_path / "out", model=bundle)
    assert not list(tmp_path.rglob("out/*.png"))
