"""The images of README and of the page of models: right crops, errors before any work."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import d2csr
from d2csr.images.reader import read_rgb8
from d2csr.images.resize import enlarge_bicubic
from tests.evaluation.conftest import make_pairs, scene
from tests.tiny_models import tiny_bundle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def maker(monkeypatch, tmp_path):
    """Return the script, with two images of generated pairs."""
    spec = importlib.util.spec_from_file_location("maker", ROOT / "docs" / "readme_image.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make_pairs(tmp_path / "data", range(1))
    monkeypatch.setenv("D2CSR_DATA", str(tmp_path / "data"))
    lr, hr = "$D2CSR_DATA/scene_0_LR2.png", "$D2CSR_DATA/scene_0_HR.png"
    figures = {
        "pair": module.Figure("tiny", lr, hr, (3, 5), 10),
        "alone": module.Figure("tiny", lr, None, (3, 5), 10),
    }
    monkeypatch.setattr(module, "FIGURES", figures)
    return module


def test_a_figure_is_the_same_crop_of_bicubic_sr_and_hr(maker, monkeypatch, tmp_path):
    tiny_bundle(tmp_path / "tiny")
    words = ["--model", tmp_path / "tiny", "--output", tmp_path / "images"]
    monkeypatch.setattr(sys, "argv", ["maker", *map(str, words)])
    maker.main()
    hr = scene(0)
    lr = np.ascontiguousarray(hr[::2, ::2])
    images = [enlarge_bicubic(lr, 2), d2csr.load(str(tmp_path / "tiny")).upscale(lr), hr]
    white = np.full((20, 6, 3), 255)
    first, second, third = (image[10:30, 6:26] for image in images)
    expected = np.concatenate([first, white, second, white, third], axis=1)
    assert np.array_equal(read_rgb8(tmp_path / "images" / "pair.png"), expected)
    assert np.array_equal(read_rgb8(tmp_path / "images" / "alone.png"), expected[:, :46])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["boat"], "boat: no such image"),
        (["pair"], "tiny doesn't ship"),
        (["--model", "nothing"], "neither a shipped model nor a folder"),
    ],
)
def test_an_error_is_one_message(maker, monkeypatch, capsys, words, message):
    monkeypatch.setattr(sys, "argv", ["maker", *words])
    with pytest.raises(SystemExit) as caught:
        maker.main()
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_photograph_is_an_error_before_any_image(maker, monkeypatch, tmp_path, capsys):
    tiny_bundle(tmp_path / "tiny")
    (tmp_path / "data" / "scene_0_HR.png").unlink()
    words = ["--model", tmp_path / "tiny", "--output", tmp_path / "images"]
    monkeypatch.setattr(sys, "argv", ["maker", *map(str, words)])
    with pytest.raises(SystemExit):
        maker.main()
    assert "$D2CSR_DATA/scene_0_HR.png isn't there" in capsys.readouterr().err
    assert not (tmp_path / "images").exists()


def test_every_image_of_the_page_has_a_figure():
    spec = importlib.util.spec_from_file_location("page", ROOT / "docs" / "photo_models.py")
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    spec = importlib.util.spec_from_file_location("maker", ROOT / "docs" / "readme_image.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert set(page.CAPTIONS) == {name for name in maker.FIGURES if name.startswith("photo")}
