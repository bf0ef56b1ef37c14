"""What a call means: which images, where they go, and what is refused before any work."""

from pathlib import Path

import pytest

from d2csr.core.errors import UsageError
from d2csr.upscale.jobs import Job, plan_images
from d2csr.upscale.options import DEFAULT_OUTPUT, OutputOptions


@pytest.fixture
def touch(tmp_path):
    """Return a function that makes empty files below the test's folder."""

    def make(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return make


def _targets(*inputs: Path, out: Path, options: OutputOptions = DEFAULT_OUTPUT) -> list[str]:
    images, errors = plan_images([*map(str, inputs)], str(out), options=options, leaves=4)
    assert not errors
    return [image.target for image in images]


def test_the_tree_of_a_folder_is_kept(tmp_path, touch):
    touch("in/b.JPG", "in/a.png", "in/deep/er/ü ñ.webp")
    assert _targets(tmp_path / "in", out=tmp_path / "out") == ["a.png", "b.png", "deep/er/ü ñ.png"]


def test_junk_is_skipped(tmp_path, touch):
    touch("in/a.png", "in/.DS_Store", "in/._a.png", "in/Thumbs.db", "in/notes.txt", "in/.git/b.png")
    assert _targets(tmp_path / "in", out=tmp_path / "out") == ["a.png"]


def test_results_inside_the_input_folder_are_no_input(tmp_path, touch):
    touch("in/a.png", "in/out/a.png", "in/out/deep/b.png")
    assert _targets(tmp_path / "in", out=tmp_path / "in" / "out") == ["a.png"]


def test_a_file_given_by_name_is_taken_whatever_its_name(tmp_path, touch):
    touch("scan.0001")
    assert _targets(tmp_path / "scan.0001", out=tmp_path / "out") == ["scan.png"]


def test_suffix_and_format_are_kept_or_chosen(tmp_path, touch):
    touch("in/a.v2.jpeg", "in/b.gif")
    sources = (tmp_path / "in", tmp_path / "in" / "b.gif")
    same = OutputOptions(suffix="_x2", ext="same")
    names = _targets(*sources, out=tmp_path / "out", options=same)
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
    inputs, output = [str(tmp_path / "a.png")], str(tmp_path / "b.webp")
    images, _ = plan_images(inputs, output, options=DEFAULT_OUTPUT, leaves=4)
    assert [image.target for image in images] == ["b.webp"]


def test_a_folder_may_be_called_like_an_image(tmp_path, touch):
    touch("a.png", "o.bmp/notes.txt")
    assert _targets(tmp_path / "a.png", out=tmp_path / "o.bmp") == ["a.png"]


def test_a_missing_file_is_an_error_and_the_others_continue(tmp_path, touch):
    touch("a.png")
    inputs = [str(tmp_path / "none.png"), str(tmp_path / "a.png")]
    images, errors = plan_images(inputs, str(tmp_path / "out"), options=DEFAULT_OUTPUT, leaves=4)
    assert [image.source for image in images] == [str(tmp_path / "a.png")]
    assert [error.problem for error in errors] == ["does not exist"]


@pytest.mark.parametrize(
    ("inputs", "out", "options", "message"),
    [
        (["empty"], "out", DEFAULT_OUTPUT, "empty: contains no images"),
        (["in/a.png"], "in", DEFAULT_OUTPUT, r"in/a\.png: would be overwritten"),
        (["in/a.png"], "in/a.png", DEFAULT_OUTPUT, r"in/a\.png: would be overwritten"),
        (
            ["in", "in2"],
            "out",
            DEFAULT_OUTPUT,
            r"a\.png: would be written for both .*in/a.* and .*in2/a",
        ),
        (
            ["twins"],
            "out",
            DEFAULT_OUTPUT,
            r"c\.png: would be written for both .*c\.jpg and .*c\.png",
        ),
        (
            ["near"],
            "out",
            OutputOptions(bicubic=True),
            r"d_bicubic\.png: would be written for both",
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
    touch("in/a.png", "in2/a.png", "twins/c.png", "twins/c.jpg", "near/d.png", "near/d_bicubic.png")
    touch("notes.txt", "empty/notes.txt")
    with pytest.raises(UsageError, match=message):
        plan_images(
            [str(tmp_path / each) for each in inputs],
            str(tmp_path / out),
            options=options,
            leaves=4,
        )
