"""Comparisons: the pixels of both images, their labels, and a page that fetches nothing."""

import base64
import re

import numpy as np
import pytest
import pyvips

from d2csr.core.bundle import Bundle
from d2csr.engine.model import load
from d2csr.images.reader import read_image, read_rgb8
from d2csr.images.resize import enlarge_bicubic
from d2csr.images.writer import write_rgb8
from d2csr.upscale.legend import render_text
from d2csr.upscale.options import OutputOptions, OutputSize
from d2csr.upscale.run import upscale_files

LR8 = np.random.default_rng(0).integers(0, 256, (150, 40, 3), dtype=np.uint8)  # of several strips
GAP_PX = 8


def _compare(bundle: Bundle, folder, kind: str, *, name: str = "a.png", **options):
    """Return the file of the comparison; `a_x2.png` and `a_x2_bicubic.png` lie beside it."""
    wanted = OutputOptions(compare=kind, bicubic=True, **options)
    summary = upscale_files([folder / name], model=bundle, options=wanted)
    assert summary.exit_code == 0, summary.errors
    (path,) = folder.glob("*_compare.*")
    assert str(path) in summary.images[0].files
    return path


def test_an_image_shows_bicubic_and_sr_below_their_labels(bundle: Bundle, tmp_path):
    write_rgb8(tmp_path / "a.png", LR8)
    image = read_rgb8(_compare(bundle, tmp_path, "image"))
    header, below = image[:-300], image[-300:]
    assert np.array_equal(below[:, :80], enlarge_bicubic(LR8, 2))
    assert (below[:, 80 : 80 + GAP_PX] == 255).all()
    assert np.array_equal(below[:, 80 + GAP_PX :], load(bundle.folder).upscale(LR8))
    for label, left in (("BICUBIC", 0), ("TINY", 80 + GAP_PX)):
        ink = render_text(label)
        found = header[4 : 4 + ink.shape[0], left + 4 : left + 4 + ink.shape[1]]
        assert np.array_equal(found, np.where(ink, 0, 255)[..., None].repeat(3, 2))


@pytest.mark.parametrize(
    "options", [{"size": OutputSize(outscale=1.5)}, {"strength": 0.5}, {"self_ensemble": True}]
)
def test_what_is_compared_are_the_files_of_the_run(bundle: Bundle, tmp_path, options):
    write_rgb8(tmp_path / "a.png", LR8)
    image = read_rgb8(_compare(bundle, tmp_path, "image", suffix="_2", **options))
    sr, bicubic = (read_rgb8(tmp_path / name) for name in ("a_2.png", "a_2_bicubic.png"))
    height, width = sr.shape[:2]
    assert np.array_equal(image[-height:, :width], bicubic)
    assert np.array_equal(image[-height:, -width:], sr)


@pytest.mark.parametrize(
    ("channels", "kind", "dtype"),
    [(1, "b-w", "uint8"), (4, "srgb", "uint8"), (3, "rgb16", "uint16")],
)
def test_gray_alpha_and_16_bit_are_compared_as_they_are(
    bundle: Bundle, tmp_path, channels, kind, dtype
):
    pixels = np.repeat(LR8[..., :1], channels, axis=2).astype(dtype)
    image = pyvips.Image.new_from_array(pixels).copy(interpretation=kind)
    image.write_to_file(str(tmp_path / "a.png"))
    compared = read_image(_compare(bundle, tmp_path, "image"))
    sr = read_image(tmp_path / "a_x2.png")
    assert compared.pixel_format == sr.pixel_format
    assert np.array_equal(compared.pixels[-300:, -80:], sr.pixels)
    assert compared.pixels.max() == sr.pixel_format.white
    if compared.alpha is not None:
        assert np.array_equal(compared.alpha[-300:, -80:], sr.alpha)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_page_holds_both_images_and_fetches_nothing(bundle: Bundle, tmp_path, name):
    write_rgb8(tmp_path / name, LR8)
    page = _compare(bundle, tmp_path, "html", name=name).read_text(encoding="utf-8")
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 2
    for source, suffix in zip(sources, ("_bicubic", ""), strict=True):
        kind, _, text = source.partition(";base64,")
        assert kind == f"data:image/{'jpeg' if name == 'a.jpg' else 'png'}"
        (tmp_path / "inside").write_bytes(base64.b64decode(text, validate=True))
        file = (tmp_path / name).with_stem(f"a_x2{suffix}")
        assert np.array_equal(read_rgb8(tmp_path / "inside"), read_rgb8(file))
    assert re.findall(r"https?:|//\w|@import|url\(", re.sub(r'src="[^"]*"', "", page)) == []
    assert "default-src 'none'" in page
    assert "<span>bicubic</span>" in page
    assert "<span>tiny</span>" in page


def test_a_name_is_text_in_the_page(bundle: Bundle, tmp_path):
    write_rgb8(tmp_path / "<b>$left IMAGE.png", LR8[:8, :8])
    page = _compare(bundle, tmp_path, "html", name="<b>$left IMAGE.png").read_text()
    assert "<b>" not in page
    assert "<title>&lt;b&gt;$left IMAGE_x2: bicubic | tiny</title>" in page


def test_a_comparison_of_webp_is_a_jpeg_which_may_be_wider(bundle: Bundle, tmp_path):
    write_rgb8(tmp_path / "a.webp", LR8[:8])
    assert _compare(bundle, tmp_path, "image", name="a.webp").name == "a_x2_compare.jpg"


def test_a_failed_image_leaves_no_comparison(bundle: Bundle, tmp_path, monkeypatch):
    write_rgb8(tmp_path / "a.png", LR8)
    monkeypatch.setattr("d2csr.images.writer.encode", _full_disk)
    options = OutputOptions(compare="html")
    summary = upscale_files([tmp_path / "a.png"], model=bundle, options=options)
    assert "No space left" in str(summary.errors[0])
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["a.png"]


def _full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")
