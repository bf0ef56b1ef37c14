"""The `upscale`, `models` and `export` commands as the shell sees them."""

import subprocess
import sys

import numpy as np
import pytest

from d2csr.core.bundle import Bundle, Figure, read_bundle
from d2csr.engine import shipped
from d2csr.export.write import set_figures
from d2csr.images.read import read_rgb8
from d2csr.images.write import write_rgb8
from tests.tiny_models import tiny_bundle

LR8 = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
NO_TORCH = """
import sys
for name in ("torch", "safetensors", "onnx", "onnxscript", "onnxruntime"):
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
    """Return a picture file."""
    write_rgb8(tmp_path / "a.png", LR8)
    return tmp_path / "a.png"


def test_upscale_works_without_torch(bundle: Bundle, photo, tmp_path):
    words = ["upscale", "-i", photo, "-o", tmp_path / "out", "-n", bundle.folder, "--disagreement"]
    command = [sys.executable, "-c", NO_TORCH, *map(str, words)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("1 picture enlarged x2 by tiny in ")
    assert read_rgb8(tmp_path / "out" / "a.png").shape == (14, 18, 3)


def test_several_inputs_follow_one_flag(d2csr, bundle: Bundle, photo, tmp_path):
    write_rgb8(tmp_path / "b.png", LR8)
    words = ("-i", photo, tmp_path / "b.png", "-o", tmp_path / "out", "--suffix", "_x2")
    answer = d2csr("upscale", *words, "--ext", "webp", "-n", bundle.folder, "-s", 2, "-g", "-1")
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_x2.webp", "b_x2.webp"]


def test_a_missing_input_among_others_gives_exit_code_one(d2csr, bundle: Bundle, photo, tmp_path):
    words = ("-i", tmp_path / "gone.png", "-i", photo, "-o", tmp_path / "out")
    answer = d2csr("upscale", *words, "-n", bundle.folder)
    assert (answer.code, "gone.png: does not exist" in answer.err) == (1, True)
    assert (tmp_path / "out" / "a.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-n", "no-such-model"), "error: no-such-model: is no model. Shipped models: "),
        (("-n", "{bundle}", "-s", "3"), "enlarges 2 times, not 3"),
        (("-n", "{bundle}", "-g", "tpu"), "'tpu' is no device of this machine. Choose one of auto"),
        (("-n", "{bundle}", "--ext", "bmp"), "bmp"),
        ((), "error: model: none is named. Add -n NAME."),
    ],
)
def test_a_wrong_call_says_what_is_wrong(d2csr, bundle, photo, tmp_path, words, message):
    words = [word.format(bundle=bundle.folder) for word in words]
    answer = d2csr("upscale", "-i", photo, "-o", tmp_path / "out", *words)
    assert (answer.code, message in answer.err, answer.out) == (2, True, ""), answer
    assert not (tmp_path / "out").exists()


def test_models_lists_what_ships(d2csr, tmp_path, monkeypatch):
    figure = Figure("test scenes", "y", 5, 29.8, 0.86, (27.5, 31.5), (0.81, 0.9), 27.72)
    set_figures(tiny_bundle(tmp_path / "tiny").folder, [figure])
    monkeypatch.setattr(shipped, "_WEIGHTS", tmp_path)
    answer = d2csr("models")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "tiny  x2  0.01M parameters  licence MIT",
        "  trained on noise",
        "  test scenes, protocol y: 29.80 dB (27.50 - 31.50), SSIM 0.8600, 5 pictures; "
        "bicubic 27.72 dB",
    ]


def test_models_says_so_where_none_ship(d2csr, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "_WEIGHTS", tmp_path)
    assert d2csr("models") == (0, "no models ship with this installation\n", "")


def test_export_copies_a_bundle_with_another_name(d2csr, bundle: Bundle, photo, tmp_path):
    words = ("-n", "other", "--licence", "CC0", "--verify-on", photo)
    answer = d2csr("export", bundle.folder, "-o", tmp_path / "out", *words)
    assert (answer.code, answer.err) == (0, "")
    copy = read_bundle(tmp_path / "out")
    assert (copy.card.name, copy.card.facts.licence, copy.card.facts.steps) == ("other", "CC0", 3)
    assert copy.weights_sha256 == bundle.weights_sha256


def test_export_of_a_folder_without_weights_is_refused(d2csr, tmp_path):
    answer = d2csr("export", tmp_path, "-o", tmp_path / "out")
    assert (answer.code, "no model.safetensors in it" in answer.err) == (2, True)
