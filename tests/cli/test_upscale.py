"""The `upscale`, `models` and `export` commands as the shell sees them."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from d2csr.core.bundle import Bundle, EvaluationScore, read_bundle
from d2csr.engine import model
from d2csr.export.bundle_writer import update_scores
from d2csr.images.reader import read_rgb8
from d2csr.images.writer import write_rgb8
from tests.tiny_models import tiny_bundle

LR8 = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
NO_TORCH = """
import sys
for name in ("torch", "safetensors", "onnx", "onnxruntime"):
    sys.modules[name] = None
from d2csr.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    """Return a bundle of a x2 network."""
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def photo(tmp_path):
    """Return an image file."""
    write_rgb8(tmp_path / "a.png", LR8)
    return tmp_path / "a.png"


def test_upscale_works_without_torch(bundle: Bundle, photo, tmp_path):
    words = ["upscale", "-i", photo, "-o", tmp_path / "out", "-n", bundle.folder, "--disagreement"]
    command = [sys.executable, "-c", NO_TORCH, *map(str, words)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("1 image enlarged x2 by tiny in ")
    assert read_rgb8(tmp_path / "out" / "a.png").shape == (14, 18, 3)


def test_several_inputs_follow_one_flag(d2csr, bundle: Bundle, photo, tmp_path):
    write_rgb8(tmp_path / "b.png", LR8)
    words = ("-i", photo, tmp_path / "b.png", "-o", tmp_path / "out", "--suffix", "_x2")
    answer = d2csr("upscale", *words, "--ext", "webp", "-n", bundle.folder, "-s", 2, "-g", "-1")
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "a_x2.webp",
        "b_x2.webp",
    ]


def test_photographs_alone_are_enlarged_beside_themselves(d2csr, bundle, photo, tmp_path):
    write_rgb8(tmp_path / "more" / "b.png", LR8)
    answer = d2csr("upscale", photo, tmp_path / "more", "-n", bundle.folder)
    results = [tmp_path / "a_x2.png", tmp_path / "more" / "b_x2.png"]
    assert (answer.code, answer.err) == (0, "")
    assert re.fullmatch(
        r"2 images enlarged x2 by tiny in [\d.]+ s: " + re.escape(f"{results[0]}, {results[1]}\n"),
        answer.out,
    )
    assert [read_rgb8(path).shape for path in results] == [(14, 18, 3)] * 2


def test_photographs_may_stand_before_and_after_options(d2csr, bundle, photo, tmp_path):
    write_rgb8(tmp_path / "b.png", LR8)
    words = ("-n", bundle.folder, photo, "-s", 2, "-i", tmp_path / "b.png")
    answer = d2csr("upscale", "--outscale", 3, *words)
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in tmp_path.glob("*_x3.png")) == ["a_x3.png", "b_x3.png"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("--compare", "PHOTO"), "a_x2_compare.png"),
        (("PHOTO", "--compare"), "a_x2_compare.png"),
        (("--compare", "html", "PHOTO"), "a_x2_compare.html"),
        (("--compare=html", "PHOTO"), "a_x2_compare.html"),
    ],
)
def test_compare_without_a_value_is_an_image(d2csr, bundle, photo, tmp_path, words, name):
    words = (photo if word == "PHOTO" else word for word in words)
    answer = d2csr("upscale", *words, "-n", bundle.folder)
    assert (answer.code, answer.err) == (0, "")
    assert [path.name for path in tmp_path.glob("*_compare.*")] == [name]


def test_where_nothing_was_made_no_place_is_named(d2csr, bundle, photo, tmp_path):
    (tmp_path / "a_x2.png").write_bytes(b"the user's own")
    answer = d2csr("upscale", photo, "-n", bundle.folder)
    assert (answer.code, answer.out.endswith(" s, 1 failed\n")) == (2, True)
    problem = "exists already. Add --overwrite to replace it, or choose another folder or --suffix."
    assert answer.err == f"error: {tmp_path / 'a_x2.png'}: {problem}\n"


def test_without_photographs_the_call_is_explained(d2csr):
    answer = d2csr("upscale", "-s", 2)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        "error: upscale: has no images to enlarge. "
        "Give image files or folders, as in `d2csr upscale photo.jpg`.\n"
    )


def test_a_missing_input_among_others_gives_exit_code_one(d2csr, bundle: Bundle, photo, tmp_path):
    words = ("-i", tmp_path / "gone.png", "-i", photo, "-o", tmp_path / "out")
    answer = d2csr("upscale", *words, "-n", bundle.folder)
    assert (answer.code, "gone.png: does not exist" in answer.err) == (1, True)
    assert (tmp_path / "out" / "a.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("-n", "no-such-model"),
            "no-such-model: is neither a shipped model nor a folder. Shipped models: ",
        ),
        (("-n", "{bundle}", "-s", "3"), "is a model for x2, not x3"),
        (
            ("-n", "{bundle}", "-g", "tpu"),
            "'tpu' is not a device of this machine. Choose one of auto",
        ),
        (("-n", "{bundle}", "--ext", "bmp"), "bmp"),
        (("-s", "8"), "error: x8: no model for photographs has this scale. Replace -s 8 by"),
        (("-n", "{bundle}", "--outscale", "0"), "--outscale: can't be 0.0"),
        (("-n", "{bundle}", "--quality", "101"), "--quality: can't be 101. Give a number from 1"),
        (("-n", "{bundle}", "--quality", "9", "--ext", "png"), "--quality: has no effect on png"),
        (("-n", "{bundle}", "--strength", "2"), "--strength: can't be 2. Give a number from 0"),
        (("-n", "{bundle}", "--memory", "much"), "--memory: 'much' is not an amount of memory"),
        (("-n", "{bundle}", "--workers", "2"), "--workers: is the number of processes of a Ray"),
        (("-n", "{bundle}", "--limit-mp", "nan"), "--limit-mp: can't be nan"),
        (("-n", "{bundle}", "--backend", "abacus"), "no backend is called 'abacus'"),
        (("-n", "{bundle}", "-i", "s3://bucket"), "s3://bucket: is a URL"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(d2csr, bundle, photo, tmp_path, words, message):
    words = [word.format(bundle=bundle.folder) for word in words]
    answer = d2csr("upscale", "-i", photo, "-o", tmp_path / "out", *words)
    assert (answer.code, message in answer.err, answer.out) == (2, True, ""), answer
    assert not (tmp_path / "out").exists()


def test_json_is_a_line_a_image_and_one_of_the_call(d2csr, bundle: Bundle, photo, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    words = ("-i", photo, tmp_path / "bad.png", "-o", tmp_path / "out", "-n", bundle.folder)
    answer = d2csr("upscale", *words, "--json", "--width", 20, "--memory", "4GiB")
    done, bad, call = sorted(map(json.loads, answer.out.splitlines()), key=_order)
    assert (answer.code, call["done"], call["failed"], call["interrupted"]) == (1, 1, 1, False)
    assert (done["status"], done["error"], done["warnings"]) == ("done", None, [])
    assert (done["input"], done["files"]) == (str(photo), [str(tmp_path / "out" / "a.png")])
    assert (done["lr_size"], done["sr_size"]) == ([9, 7], [20, 16])
    assert set(done["seconds"]) == {"decode", "compute", "encode"}
    assert (done["model"], done["weights_sha256"]) == ("tiny", bundle.weights_sha256)
    assert (done["backend"], done["device"], done["scale"]) == ("openvino", "CPU", 2)
    assert bad["status"] == "failed"
    assert "bad.png: is empty" in bad["error"]
    assert bad["error"] in answer.err


def _order(record: dict[str, object]) -> tuple[object, ...]:
    return record["event"] == "run", record.get("status") == "failed"


def test_dry_run_says_what_would_be_done_and_writes_nothing(d2csr, bundle, photo, tmp_path):
    words = ("-i", photo, "-o", tmp_path / "out", "-n", bundle.folder, "-x")
    answer = d2csr("upscale", *words, "--dry-run")
    assert (answer.code, answer.err) == (0, "")
    out = tmp_path / "out" / "a.png"
    assert answer.out.startswith(f"{photo} 9x7 -> {out} 18x14: in one piece, then in strips of ")
    assert not (tmp_path / "out").exists()
    d2csr("upscale", *words)
    dry = ("--dry-run", "--json", "--overwrite")
    (record,) = map(json.loads, d2csr("upscale", *words, *dry).out.splitlines())
    assert (record["status"], record["files"]) == ("to do", [str(out)])
    again = d2csr("upscale", *words, "--dry-run")
    assert again.out == f"{photo} 9x7 -> {out} 18x14: done before\n"


def test_the_size_of_the_results_is_reported(d2csr, bundle: Bundle, photo, tmp_path):
    words = ("-i", photo, "-o", tmp_path / "out", "-n", bundle.folder, "--overwrite")
    out = d2csr("upscale", *words, "--outscale", 4).out
    assert out.startswith("1 image enlarged x4 by tiny in ")
    out = d2csr("upscale", *words, "--width", 30, "--height", 30).out
    assert out.startswith("1 image enlarged to fit 30x30 by tiny in ")
    assert read_rgb8(tmp_path / "out" / "a.png").shape == (23, 30, 3)
    d2csr("upscale", *words, "--width", 30, "--height", 30, "--stretch")
    assert read_rgb8(tmp_path / "out" / "a.png").shape == (30, 30, 3)


def test_dry_run_tells_errors(d2csr, bundle: Bundle, photo, tmp_path):
    words = ("-i", photo, tmp_path / "gone", "-o", tmp_path / "out", "-n", bundle.folder)
    answer = d2csr("upscale", *words, "--dry-run")
    assert (answer.code, "gone: does not exist" in answer.err) == (1, True)


def test_resume_says_what_was_done_before(d2csr, bundle: Bundle, photo, tmp_path):
    words = ("-i", photo, "-o", tmp_path / "out", "-n", bundle.folder)
    d2csr("upscale", *words)
    answer = d2csr("upscale", *words, "--resume")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("0 images enlarged x2 by tiny in ")
    assert answer.out.rstrip().endswith(f", 1 done before: {tmp_path / 'out'}")


def test_self_ensemble_changes_the_image_a_little(d2csr, bundle: Bundle, photo, tmp_path):
    words = ("-i", photo, "-n", bundle.folder)
    d2csr("upscale", *words, "-o", tmp_path / "one.png")
    d2csr("upscale", *words, "-o", tmp_path / "mean.png", "-x")
    one, mean = (read_rgb8(tmp_path / name).astype(int) for name in ("one.png", "mean.png"))
    assert 0 < np.abs(one - mean).mean() < 30


def test_models_lists_what_ships(d2csr, tmp_path, monkeypatch):
    figure = EvaluationScore("test scenes", "y", 5, 29.8, 0.86, (27.5, 31.5), (0.81, 0.9), 27.72)
    update_scores(tiny_bundle(tmp_path / "tiny").folder, [figure])
    monkeypatch.setattr(model, "_WEIGHTS", tmp_path)
    answer = d2csr("models")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "tiny  x2  0.01M parameters  licence MIT",
        "  trained on noise",
        "  test scenes, protocol y: 29.80 dB (27.50 - 31.50), SSIM 0.8600, 5 images; "
        "bicubic 27.72 dB",
    ]


def test_models_says_so_where_none_ship(d2csr, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "_WEIGHTS", tmp_path)
    assert d2csr("models") == (0, "no models ship with this installation\n", "")


def test_export_copies_a_bundle_with_another_name(d2csr, bundle: Bundle, photo, tmp_path):
    words = ("-n", "other", "--licence", "CC0", "--verify-on", photo)
    answer = d2csr("export", bundle.folder, "-o", tmp_path / "out", *words)
    assert (answer.code, answer.err) == (0, "")
    copy = read_bundle(tmp_path / "out")
    assert (copy.card.name, copy.card.metadata.licence, copy.card.metadata.steps) == (
        "other",
        "CC0",
        3,
    )
    assert copy.weights_sha256 == bundle.weights_sha256


def test_export_of_a_folder_without_weights_is_refused(d2csr, tmp_path):
    answer = d2csr("export", tmp_path, "-o", tmp_path / "out")
    assert (answer.code, "no model.safetensors in it" in answer.err) == (2, True)


def test_the_help_describes_the_automatic_device_as_it_is_chosen(d2csr):
    """It named the processor, while `auto` took an NVIDIA GPU wherever torch found one."""
    words = " ".join(d2csr("upscale", "--help").out.replace("│", " ").split())
    assert "auto is an NVIDIA GPU" in words
    assert "auto is the processor" not in words
