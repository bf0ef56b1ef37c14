"""What a call means: which images, where they go, and what is refused before any work."""

import os
from pathlib import Path

import pytest

from d2csr.core.errors import UsageError
from d2csr.upscale.jobs import Job, Plan, plan_images
from d2csr.upscale.journal import Journal
from d2csr.upscale.options import DEFAULT_OUTPUT, OutputOptions, OutputSize


@pytest.fixture
def touch(tmp_path):
    """Return a function that makes empty files below the test's folder."""

    def make(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return make


def _plan(*inputs: Path, out: Path, options: OutputOptions = DEFAULT_OUTPUT) -> Plan:
    return plan_images([*map(str, inputs)], str(out), options=options, leaves=4, scale=2)


def _targets(*inputs: Path, out: Path, options: OutputOptions = DEFAULT_OUTPUT) -> list[str]:
    plan = _plan(*inputs, out=out, options=options)
    assert not plan.errors
    return [image.target for image in plan.images]


def test_the_tree_of_a_folder_is_kept(tmp_path, touch):
    touch("in/b.JPG", "in/a.png", "in/deep/er/ü ñ.webp")
    assert _targets(tmp_path / "in", out=tmp_path / "out") == ["a.png", "b.JPG", "deep/er/ü ñ.webp"]


def test_junk_is_skipped(tmp_path, touch):
    touch("in/a.png", "in/.DS_Store", "in/._a.png", "in/Thumbs.db", "in/notes.txt", "in/.git/b.png")
    assert _targets(tmp_path / "in", out=tmp_path / "out") == ["a.png"]


IRREGULAR = {
    "pipe": (os.mkfifo, "is not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "circle": (lambda path: path.symlink_to(path), "can't be read: Too many levels of symbolic"),
    "broken": (lambda path: path.symlink_to("nothing"), "is a link to a file that doesn't exist"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", IRREGULAR)
def test_what_is_no_regular_file_is_told_and_skipped(tmp_path, touch, kind):
    touch("in/a.png")
    make, problem = IRREGULAR[kind]
    odd = tmp_path / "in" / "odd.png"
    make(odd)
    for inputs in ([tmp_path / "in"], [tmp_path / "in" / "a.png", odd]):
        plan = _plan(*inputs, out=tmp_path / "out")
        assert [image.target for image in plan.images] == ["a.png"]
        assert [error.where for error in plan.errors] == [str(odd)]
        assert plan.errors[0].problem.startswith(problem)


def test_links_to_images_are_images(tmp_path, touch):
    touch("elsewhere/a.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in", target_is_directory=True)
    assert _targets(tmp_path / "in", out=tmp_path / "out") == ["link.png"]


def test_results_inside_the_input_folder_are_no_input(tmp_path, touch):
    touch("in/a.png", "in/out/a.png", "in/out/deep/b.png")
    assert _targets(tmp_path / "in", out=tmp_path / "in" / "out") == ["a.png"]


def test_a_file_given_by_name_is_taken_whatever_its_name(tmp_path, touch):
    touch("scan.0001")
    assert _targets(tmp_path / "scan.0001", out=tmp_path / "out") == ["scan.png"]


def test_suffix_and_format_are_kept_or_chosen(tmp_path, touch):
    touch("in/a.v2.jpeg", "in/b.gif")
    sources = (tmp_path / "in", tmp_path / "in" / "b.gif")
    for ext in (None, "same"):
        options = OutputOptions(suffix="_x2", ext=ext)
        names = _targets(*sources, out=tmp_path / "out", options=options)
        assert names == ["a.v2_x2.jpeg", "b_x2.png"]
    assert _targets(*sources, out=tmp_path / "o", options=OutputOptions(ext="tif")) == [
        "a.v2.tif",
        "b.tif",
    ]


def test_every_extra_has_a_name():
    job = Job(Path("a.jpg"), Path("out/a.jpg"))
    everything = OutputOptions(
        predictions=True, weight_maps=True, uncertainty=True, disagreement=True, bicubic=True
    )
    assert [path.name for path in job.files(everything, 2)] == [
        *("a.jpg", "a_bicubic.jpg", "a_prediction_1.jpg", "a_prediction_2.jpg"),
        *("a_weight_1.png", "a_weight_2.png", "a_uncertainty.png", "a_disagreement.png"),
    ]


def test_one_image_may_name_its_result(tmp_path, touch):
    touch("a.png")
    assert _targets(tmp_path / "a.png", out=tmp_path / "b.webp") == ["b.webp"]


@pytest.mark.parametrize("ext", ["png", "jpg", "same"])
def test_a_format_that_contradicts_the_name_of_the_result_is_refused(tmp_path, touch, ext):
    touch("a.png")
    with pytest.raises(UsageError, match=r"out\.tiff: already determines .*the format"):
        _plan(tmp_path / "a.png", out=tmp_path / "out.tiff", options=OutputOptions(ext=ext))


def test_a_format_may_repeat_the_one_of_the_name(tmp_path, touch):
    touch("a.png")
    options = OutputOptions(ext="tif")
    assert _targets(tmp_path / "a.png", out=tmp_path / "o.TIFF", options=options) == ["o.TIFF"]


def test_a_folder_may_be_called_like_an_image(tmp_path, touch):
    touch("a.png", "o.bmp/notes.txt")
    assert _targets(tmp_path / "a.png", out=tmp_path / "o.bmp") == ["a.png"]


def test_a_missing_file_is_an_error_and_the_others_continue(tmp_path, touch):
    touch("a.png")
    plan = _plan(tmp_path / "none.png", tmp_path / "a.png", out=tmp_path / "out")
    assert [image.source for image in plan.images] == [str(tmp_path / "a.png")]
    assert [error.problem for error in plan.errors] == ["does not exist"]


def test_images_whose_results_would_share_a_name_get_their_format_in_it(tmp_path, touch):
    touch("in/a.jpg", "in/a.png", "in/b.png", "in/deep/a.png")
    options = OutputOptions(suffix="_x2", ext="png")
    plan = _plan(tmp_path / "in", out=tmp_path / "out", options=options)
    assert [image.target for image in plan.images] == [
        *("a_jpg_x2.png", "a_png_x2.png", "b_x2.png", "deep/a_x2.png")
    ]
    assert plan.errors == ()
    assert plan.notes == (
        "2 images of one name have their format in the names of their results, such as "
        "a_jpg_x2.png",
    )


def test_a_file_beside_the_result_may_not_share_its_name_either(tmp_path, touch):
    touch("near/d.png", "near/d_bicubic.png")
    options = OutputOptions(bicubic=True)
    names = _targets(tmp_path / "near", out=tmp_path / "out", options=options)
    assert names == ["d_png.png", "d_bicubic_png.png"]


def test_images_that_no_name_tells_apart_are_errors_and_the_others_continue(tmp_path, touch):
    touch("in/a.png", "in/b.png", "in2/a.png")
    plan = _plan(tmp_path / "in", tmp_path / "in2", out=tmp_path / "out")
    assert [image.target for image in plan.images] == ["b.png"]
    assert sorted(error.where for error in plan.errors) == [
        str(tmp_path / name / "a.png") for name in ("in", "in2")
    ]
    assert all("would have the same" in error.problem for error in plan.errors)


def test_an_image_that_would_overwrite_another_is_an_error_and_the_others_continue(tmp_path, touch):
    touch("in/a.png", "in/a_x2.png", "in/b.png")
    plan = _plan(tmp_path / "in", out=tmp_path / "in", options=OutputOptions(suffix="_x2"))
    assert [image.target for image in plan.images] == ["a_x2_x2.png", "b_x2.png"]
    assert [(error.where, error.problem) for error in plan.errors] == [
        (str(tmp_path / "in/a.png"), f"its result would overwrite {tmp_path / 'in/a_x2.png'}")
    ]


@pytest.fixture
def results(tmp_path, touch):
    """Return a folder of images that holds results of an earlier run as well."""
    touch("in/a.png", "in/deep/b.png", "in/a_x2.png", "in/a_x2_bicubic.png", "in/deep/b_x2.png")
    folder, own = tmp_path / "in", {"input_sha256": "", "settings": ""}
    Journal(folder).add([folder / "a_x2.png", folder / "a_x2_bicubic.png"], **own)
    Journal(folder).add([folder / "deep/b_x2.png"], **own)
    return folder


@pytest.mark.parametrize("suffix", ["_x2", "_other"])
@pytest.mark.parametrize("out", ["in", "elsewhere"])
def test_results_of_earlier_runs_are_no_input(tmp_path, results, suffix, out):
    plan = _plan(results, out=tmp_path / out, options=OutputOptions(suffix=suffix))
    assert [image.target for image in plan.images] == [f"a{suffix}.png", f"deep/b{suffix}.png"]
    assert [note.partition(";")[0] for note in plan.notes] == ["left out 3 results of earlier runs"]
    assert not plan.errors


def test_results_are_known_by_the_journal_of_a_folder_above(tmp_path, results):
    plan = _plan(results / "deep", out=tmp_path / "out")
    assert [image.target for image in plan.images] == ["b.png"]


def test_a_result_that_was_changed_is_an_image_of_the_user(tmp_path, results):
    (results / "a_x2.png").write_bytes(b"painted over")
    plan = _plan(results, out=results, options=OutputOptions(suffix="_x2"))
    assert [image.target for image in plan.images] == ["a_x2_x2.png", "deep/b_x2.png"]
    assert [error.where for error in plan.errors] == [str(results / "a.png")]


def test_a_result_given_by_name_is_an_input_unless_it_would_be_overwritten(tmp_path, results):
    named = (results / "a.png", results / "a_x2.png")
    assert _targets(*named, out=tmp_path / "out") == ["a.png", "a_x2.png"]
    assert _targets(*named, out=results, options=OutputOptions(suffix="_x2")) == ["a_x2.png"]


def test_where_nothing_but_results_is_found_the_error_says_so(tmp_path, results):
    (results / "a.png").unlink()
    (results / "deep/b.png").unlink()
    with pytest.raises(UsageError, match="contains no images but 3 results of earlier runs"):
        _plan(results, out=tmp_path / "out")


def _beside(*inputs: Path, options: OutputOptions = DEFAULT_OUTPUT) -> Plan:
    return plan_images([*map(str, inputs)], "", options=options, leaves=4, scale=2)


@pytest.mark.parametrize(
    ("size", "suffix"),
    [
        (OutputSize(), "_x2"),
        (OutputSize(outscale=1.5), "_x1.5"),
        (OutputSize(width=3000), "_3000w"),
        (OutputSize(height=2000), "_2000h"),
        (OutputSize(width=3000, height=2000), "_3000x2000"),
    ],
)
def test_without_an_output_results_lie_beside_their_originals(tmp_path, touch, size, suffix):
    touch("a.jpg", "in/deep/b.JPEG")
    plan = _beside(tmp_path / "a.jpg", tmp_path / "in", options=OutputOptions(size=size))
    assert [image.target for image in plan.images] == [
        str(tmp_path / f"a{suffix}.jpg"),
        str(tmp_path / f"in/deep/b{suffix}.JPEG"),
    ]
    assert (plan.errors, plan.notes) == ((), ())


def test_a_suffix_replaces_that_of_the_enlargement(tmp_path, touch):
    touch("a.jpg")
    plan = _beside(tmp_path / "a.jpg", options=OutputOptions(suffix="-large"))
    assert [image.target for image in plan.images] == [str(tmp_path / "a-large.jpg")]


def test_images_in_the_working_directory_are_found_without_an_output(tmp_path, touch, monkeypatch):
    touch("in/a.jpg", "in/b/c.png")
    monkeypatch.chdir(tmp_path / "in")
    plan = plan_images(["."], "", options=DEFAULT_OUTPUT, leaves=4, scale=2)
    assert [image.target for image in plan.images] == ["a_x2.jpg", "b/c_x2.png"]


@pytest.mark.parametrize("out", ["", "out"])
def test_an_image_given_twice_is_one_image(tmp_path, touch, monkeypatch, out):
    touch("in/a.jpg", "in/b.jpg")
    monkeypatch.chdir(tmp_path)
    names = ["in/a.jpg", "in", str(tmp_path / "in" / "b.jpg")]
    plan = plan_images(names, out, options=DEFAULT_OUTPUT, leaves=4, scale=2)
    suffix = "" if out else "_x2"
    assert [Path(image.target).name for image in plan.images] == [
        f"a{suffix}.jpg",
        f"b{suffix}.jpg",
    ]
    assert plan.errors == ()


def test_formats_that_cannot_be_written_become_png_with_one_note(tmp_path, touch):
    touch("a.gif", "b.GIF", "c.png", "scan.0001")
    names = [tmp_path / name for name in ("a.gif", "b.GIF", "c.png", "scan.0001")]
    plan = _beside(*names)
    assert [Path(image.target).name for image in plan.images] == [
        *("a_x2.png", "b_x2.png", "c_x2.png", "scan_x2.png")
    ]
    assert plan.notes == (
        "3 results are PNG, because the format of the image can't be written (.0001, .gif)",
    )
    assert _beside(*names, options=OutputOptions(ext="png")).notes == ()


def test_named_results_are_left_out_beside_others_and_enlarged_alone(results):
    """`d2csr upscale *.png` names them, but means the originals."""
    names = [results / name for name in ("a.png", "a_x2.png", "a_x2_bicubic.png")]
    plan = _beside(*names, options=OutputOptions(suffix="_x4"))
    assert [Path(image.target).name for image in plan.images] == ["a_x4.png"]
    assert plan.notes == (
        "left out 2 results of earlier runs; to enlarge results again, give them alone",
    )
    assert [Path(image.target).name for image in _beside(names[1]).images] == ["a_x2_x2.png"]


@pytest.mark.parametrize(
    ("inputs", "out", "options", "message"),
    [
        (["empty"], "out", DEFAULT_OUTPUT, "empty: contains no images"),
        (["in/a.png"], "in", DEFAULT_OUTPUT, r"in/a\.png: its result would overwrite .*in/a\.png"),
        (["in/a.png"], "in/a.png", DEFAULT_OUTPUT, "its result would overwrite"),
        (
            ["in", "in2"],
            "out",
            DEFAULT_OUTPUT,
            r"in/a\.png: its result would have the same name as that of .*in2/a\.png",
        ),
        (["in", "twins"], "b.png", DEFAULT_OUTPUT, "is the name of one file"),
        (["in/a.png"], "b.png", OutputOptions(suffix="_2"), "already determines the name"),
        (["in/a.png"], "notes.txt", DEFAULT_OUTPUT, "is a file, but not an image"),
        (
            ["in/a.png"],
            "o.BMP",
            DEFAULT_OUTPUT,
            r"can't be written: \.BMP is not an output format.*\.png, .*\.tif",
        ),
        (["in/a.png"], "out", OutputOptions(suffix="/../x"), "contains a path separator"),
    ],
)
def test_it_is_refused_before_any_work(tmp_path, touch, inputs, out, options, message):
    touch("in/a.png", "in2/a.png", "twins/c.png", "twins/c.jpg")
    touch("notes.txt", "empty/notes.txt")
    with pytest.raises(UsageError, match=message):
        _plan(*(tmp_path / each for each in inputs), out=tmp_path / out, options=options)
