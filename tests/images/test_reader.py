"""Every row of docs/files.md on files made here, and the claims of its prose."""

import io
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, ImageOps

from d2csr.core.errors import ImageError
from d2csr.core.geometry import Size
from d2csr.images.exif import read_file_tags
from d2csr.images.formats import DEFAULT_LIMIT_MP
from d2csr.images.metadata import read_container_info
from d2csr.images.reader import read_image, read_rgb8, read_size
from tests.images.made import CASES, DARK16, GRAY, RGB, SMOOTH, animated, heic, pillow, png, tiff

PAGE = Path(__file__).parents[2] / "docs" / "files.md"


def table(heading):
    """Return the rows of the first table under a heading, as lists of cells."""
    section = PAGE.read_text("utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows[2:] if len(row) == len(rows[0])]


ROWS = {name: (becomes, says) for name, becomes, says in table("What goes in")}


def put(folder, suffix, contents):
    path = folder / f"x{suffix}"
    if contents is not None:
        path.write_bytes(contents)
    return path


def test_the_page_has_a_row_for_every_file_made_here():
    assert list(ROWS) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_files_become_what_the_page_says(tmp_path, name):
    made = CASES[name]()
    becomes, says = ROWS[name]
    path = put(tmp_path, made.suffix, made.contents)
    if becomes == "refused":
        with pytest.raises(ImageError) as caught:
            read_image(path)
        assert says in caught.value.problem
        assert "\n" not in str(caught.value)
        return
    image = read_image(path)
    layout = image.pixel_format
    described = f"{'gray' if layout.color_channels == 1 else 'RGB'} {layout.bits}"
    assert described + " + alpha" * layout.has_alpha == becomes
    assert (says in image.warnings[0]) if says else not image.warnings
    assert read_size(path) == image.size
    if made.pixels is not None:
        off = image.pixels.astype(int) - made.pixels.reshape(image.pixels.shape)
        assert np.abs(off).max() <= made.off
    if layout.has_alpha:
        assert np.array_equal(image.alpha, made.alpha)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_images_are_turned_upright_as_pillow_turns_them(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x{suffix}"
    Image.fromarray(SMOOTH).save(path, exif=exif, dpi=(300, 150))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    image = read_image(path)
    assert np.abs(image.pixels.astype(int) - expected).max() <= 2 * (suffix == ".jpg")
    assert read_size(path) == Size(expected.shape[1], expected.shape[0])
    assert image.metadata.dpi == pytest.approx((150, 300) if orientation > 4 else (300, 150), 1e-4)


@pytest.mark.parametrize("level", [0, 1, 127, 128, 254, 255])
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff", "gif", "avif"])
def test_flat_fields_keep_their_value_and_gray_gets_no_tint(tmp_path, level, kind):
    path = put(tmp_path, f".{kind}", pillow(np.full((16, 16, 3), level, np.uint8), kind))
    assert np.unique(read_image(path).pixels).tolist() == [level]


def test_pixels_are_those_of_the_8_bit_reader(tmp_path):
    for name in ("PNG, palette", "JPEG", "TIFF, channels apart", "GIF", "AVIF"):
        made = CASES[name]()
        path = put(tmp_path, made.suffix, made.contents)
        assert np.array_equal(read_rgb8(path), read_image(path).pixels)


def test_without_a_decoder_a_phone_s_image_is_refused_with_its_cure(tmp_path, monkeypatch):
    path = put(tmp_path, ".heic", CASES["HEIC (HEVC), of phones"]().contents)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for read in (read_image, read_rgb8):
        with pytest.raises(ImageError, match="HEVC") as caught:
            read(path)
        assert "d2csr[heif]" in caught.value.remedy


def test_a_phone_s_image_keeps_exif_xmp_and_profile(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kept = {"exif": exif.tobytes(), "xmp": b"<x:xmpmeta/>", "icc_profile": icc}
    path = tmp_path / "x.heic"
    with_these = pillow_heif.from_pillow(Image.fromarray(RGB))
    with_these.save(path, **kept)
    found = read_image(path).metadata
    assert found.icc == icc
    assert found.exif.main[0x010F].data.rstrip(b"\0") == b"Maker"
    assert b"xmpmeta" in found.xmp


def test_a_phone_s_image_in_tiles_is_one_image(tmp_path):
    large = np.tile(SMOOTH, (7, 6, 1))
    path = put(tmp_path, ".heic", heic(large, "RGB", tile_size=64))
    assert path.read_bytes().count(b"grid") == 1
    assert np.array_equal(read_image(path).pixels, large)


def test_a_phone_s_image_cut_short_is_refused(tmp_path):
    whole = heic(RGB, "RGB")
    path = put(tmp_path, ".heic", whole[: len(whole) - 300])
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_image(path)


@pytest.mark.parametrize(
    "name", [b"Gr\xc3\xb6\xc3\x9fe \xe5\x86\x99.png", b"latin \xe9.png", b"a[1].png"]
)
def test_names_may_be_any_bytes(tmp_path, name):
    path = Path(os.fsdecode(bytes(tmp_path) + b"/" + name))
    path.write_bytes(png(RGB))
    assert np.array_equal(read_image(path).pixels, RGB)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "device", "circle", "folder"])
@pytest.mark.parametrize(
    "read", [read_image, read_rgb8, read_size, read_file_tags, read_container_info]
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind, read):
    path = tmp_path / "x.png"
    {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "circle": lambda: path.symlink_to(path),
        "folder": path.mkdir,
    }[kind]()
    arguments = (path, "png") if read is read_container_info else (path,)
    with pytest.raises((ImageError, OSError), match=r"regular file|symbolic links|directory"):
        read(*arguments)


def wide(kind):
    """Return a file whose header claims far more pixels than it has."""
    if kind == "webp":
        lossy = bytearray(pillow(RGB, "webp", lossless=True, exact=True, exif=b"II*\0"))
        at = lossy.index(b"VP8X") + 12
        lossy[at : at + 6] = (16382).to_bytes(3, "little") * 2
        return bytes(lossy)
    if kind == "gif":
        return pillow(RGB, "gif").replace(struct.pack("<HH", 30, 20), b"\xff" * 4)
    if kind == "tiff":
        image = tiff(GRAY, metadata=None)
        for tag, side in ((256, 30), (257, 20)):
            entry = struct.pack("<HHII", tag, 4, 1, side)
            assert entry in image
            image = image.replace(entry, struct.pack("<HHII", tag, 4, 1, 90_000))
        return image
    if kind == "jpeg":
        return pillow(RGB, "jpeg").replace(
            struct.pack(">HH", 20, 30), struct.pack(">HH", 65000, 65000)
        )
    claimed = struct.pack(">II", 60_000, 60_000)
    return pillow(RGB, "avif").replace(struct.pack(">II", 30, 20), claimed)


@pytest.mark.parametrize("kind", ["gif", "tiff", "jpeg", "webp", "avif"])
def test_bombs_are_refused_by_their_headers(tmp_path, kind):
    path = put(tmp_path, f".{kind}", wide(kind))
    with pytest.raises(ImageError, match=r"above the limit of 256|Security limit|damaged"):
        read_image(path)
    with pytest.raises(ImageError):
        read_size(path, limit_mp=DEFAULT_LIMIT_MP)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("suffix", "contents"),
    [
        (".jpg", pillow(RGB, "jpeg").replace(b"\0\x14\0\x1e", struct.pack(">HH", 15999, 16000), 1)),
        (".png", png(RGB, claimed=(16000, 15999))),
    ],
)
def test_a_small_file_that_declares_an_enormous_image_is_refused_by_its_header(
    tmp_path, suffix, contents
):
    path = put(tmp_path, suffix, contents)
    for read in (read_image, read_size):
        with pytest.raises(ImageError, match=r"declares 16000x15999, but [\d,]+ bytes can't hold"):
            read(path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("jpeg", {"optimize": True}),
        ("jpeg", {"progressive": True, "optimize": True}),
        ("jpeg", {"quality": 1}),
        ("png", {"compress_level": 9}),
    ],
)
def test_an_empty_image_however_small_its_file_is_read(tmp_path, kind, options):
    empty = Image.new("1" if kind == "png" else "RGB", (3000, 2000))
    path = put(tmp_path, f".{kind}", pillow(empty, kind, **options))
    assert read_size(path) == Size(3000, 2000)
    assert read_image(path).pixels.max() <= 1


def test_the_limit_can_be_set(tmp_path):
    path = put(tmp_path, ".png", png(RGB))
    assert read_image(path, limit_mp=600 / 1e6).size == Size(30, 20)
    with pytest.raises(ImageError, match=r"is 30x20, 0\.0006 MP, above the limit of 0\.0005"):
        read_image(path, limit_mp=0.0005)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff", "gif", "avif"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
def test_what_is_cut_short_is_refused(tmp_path, kind, share):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    whole = pillow(noise, kind)
    path = put(tmp_path, f".{kind}", whole[: int(len(whole) * share)])
    with pytest.raises(ImageError, match=r"cut short|no image") as caught:
        read_image(path)
    jargon = r"vips|_source|\wload|bad seek|unable to call"  # functions of libraries
    assert not re.search(jargon, caught.value.problem)


def test_texts_of_a_png_are_kept_if_they_can_be_written(tmp_path):
    chunks = [(b"tEXt", b"Author\0A. Person"), (b"iTXt", b"Title\0\0\0de\0\0" + "ü写".encode())]
    image = read_image(put(tmp_path, ".png", png(RGB, extra=chunks)))
    assert image.metadata.texts == (("Author", "A. Person"),)
    assert "a text outside ASCII was left out" in image.warnings[0]


def test_p3_declared_by_number_gets_the_equivalent_profile(tmp_path):
    made = CASES["PNG, Display P3 by number"]()
    icc = read_image(put(tmp_path, made.suffix, made.contents)).metadata.icc
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
    red = profile.red_primary[1][:2]  # of Display P3, seen from D65: x 0.680, y 0.320
    assert red == pytest.approx((0.680, 0.320), abs=0.01)


@pytest.mark.parametrize("damage", ["short", "gray"])
def test_an_unusable_profile_is_left_out_with_a_warning(tmp_path, damage):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    icc = icc[:-1] if damage == "short" else icc[:16] + b"GRAY" + icc[20:]
    image = read_image(put(tmp_path, ".jpg", pillow(SMOOTH, "jpeg", icc_profile=icc)))
    assert image.metadata.icc is None
    assert "color profile" in image.warnings[0]


def test_a_gif_of_several_frames_has_no_alpha_unless_it_uses_it(tmp_path):
    image = read_image(put(tmp_path, ".gif", animated("gif")))
    assert image.alpha is None


def test_dark_is_not_mistaken_for_8_bit(tmp_path):
    assert DARK16.max() < 256
    image = read_image(put(tmp_path, ".png", png(DARK16)))
    assert image.pixels.dtype == np.uint16


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.gif", "a.avif"])
def test_a_file_cut_short_while_it_is_read_is_an_image_or_an_error(tmp_path, name):
    """JPEG, WebP and GIF files were mapped, and a mapped file cut short ended the process."""
    program = """
import os, sys
from pathlib import Path
import numpy as np, pyvips
from d2csr.images.decode import open_image
from d2csr.images.exif import _FileBytes
path = Path(sys.argv[1])
noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
pyvips.Image.new_from_array(noise).write_to_file(str(path))
image = open_image(path, sequential=True)
with path.open("rb") as file:
    contents = _FileBytes(file.fileno())
    os.truncate(path, 5000)
    assert contents[4990:6000] == path.read_bytes()[4990:]
try:
    print(image.numpy().shape)
except pyvips.Error:
    print("an error")
"""
    command = [sys.executable, "-c", program, str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"(300, 300, 3)", "(300, 300, 4)", "an error"}
