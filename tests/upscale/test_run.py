"""Files in, files out: what is written, what is reported, and what is left alone."""

import numpy as np
import pytest

from d2csr.core.bundle import Bundle
from d2csr.engine.model import load
from d2csr.images.read import read_rgb8
from d2csr.images.resize import enlarge_bicubic
from d2csr.images.write import write_rgb8
from d2csr.upscale import run
from d2csr.upscale.run import upscale_files
from d2csr.upscale.wanted import Wanted

LR8 = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
EVERYTHING = Wanted(predictions=True, weight_maps=True, disagreement=True, bicubic=True)


@pytest.fixture
def photos(tmp_path):
    """Return a folder with two pictures, one of them in a folder below."""
    write_rgb8(tmp_path / "photos" / "a.png", LR8)
    write_rgb8(tmp_path / "photos" / "deep" / "b.png", LR8[::-1])
    return tmp_path / "photos"


def _names(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_every_picture_of_a_folder_is_enlarged(bundle: Bundle, photos, tmp_path):
    summary = upscale_files([photos], tmp_path / "out", bundle=bundle)
    assert (summary.exit_code, summary.faults) == (0, ())
    assert _names(tmp_path / "out") == ["a.png", "deep/b.png"]
    wanted = load(bundle.folder).upscale(LR8[::-1])
    assert np.array_equal(read_rgb8(tmp_path / "out" / "deep" / "b.png"), wanted)


def test_all_extras_are_pictures_of_what_the_model_says(bundle: Bundle, photos, tmp_path):
    upscale_files([photos / "a.png"], tmp_path / "out", bundle=bundle, wanted=EVERYTHING)
    answer = load(bundle.folder).predict(LR8)
    numbered = [f"a_{what}_{leaf}.png" for what in ("prediction", "weight") for leaf in range(1, 5)]
    names = ["a.png", "a_bicubic.png", "a_disagreement.png", *numbered]
    assert _names(tmp_path / "out") == sorted(names)
    pixels = {name: read_rgb8(tmp_path / "out" / name) for name in names}
    assert np.array_equal(pixels["a.png"], answer.sr)
    assert np.array_equal(pixels["a_bicubic.png"], enlarge_bicubic(LR8, 2))
    assert np.array_equal(pixels["a_prediction_3.png"], answer.predictions[2])
    assert np.array_equal(pixels["a_weight_4.png"], run.heatmap(answer.weights[3], top=0.5))
    assert np.array_equal(pixels["a_disagreement.png"], run.heatmap(answer.disagreement, top=4.0))


def test_a_bad_file_is_reported_and_the_rest_go_on(bundle: Bundle, photos, tmp_path, capfd):
    (photos / "aa.png").write_bytes(b"")
    (photos / "ab.png").write_bytes((photos / "a.png").read_bytes()[:90])
    summary = upscale_files([photos, tmp_path / "gone"], tmp_path / "out", bundle=bundle)
    assert (summary.exit_code, len(summary.faults)) == (1, 3)
    assert _names(tmp_path / "out") == ["a.png", "deep/b.png"]
    told = capfd.readouterr().err
    assert [name for name in ("aa.png: is empty", "ab.png: ", "gone: ") if name not in told] == []
    assert summary.as_text().startswith("2 pictures enlarged x2 by tiny in ")
    assert summary.as_text().endswith(", 3 failed")


def test_where_nothing_works_the_exit_code_is_two(bundle: Bundle, tmp_path):
    assert upscale_files([tmp_path / "gone"], tmp_path / "out", bundle=bundle).exit_code == 2


def test_a_picture_too_large_for_the_memory_is_reported(
    bundle: Bundle, photos, tmp_path, monkeypatch
):
    def upscale(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(run.Model, "upscale", upscale)
    summary = upscale_files([photos], tmp_path / "out", bundle=bundle)
    assert [fault.problem for fault in summary.faults] == [
        "is too large for this machine's memory"
    ] * 2


def test_a_failed_write_leaves_nothing_behind(bundle: Bundle, photos, tmp_path):
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    summary = upscale_files([photos / "a.png"], tmp_path / "out", bundle=bundle)
    assert [fault.problem for fault in summary.faults] == ["is a folder"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_gray_picture_and_a_16_bit_one_are_enlarged(bundle: Bundle, tmp_path):
    from skimage.io import imsave

    imsave(tmp_path / "gray.png", LR8[..., 0], check_contrast=False)
    imsave(tmp_path / "deep.png", LR8[..., 0].astype(np.uint16) * 257, check_contrast=False)
    inputs = [tmp_path / "gray.png", tmp_path / "deep.png"]
    assert upscale_files(inputs, tmp_path / "out", bundle=bundle).exit_code == 0
    gray, deep = (read_rgb8(tmp_path / "out" / path.name) for path in inputs)
    assert np.array_equal(gray, deep)
