"""Strength, from file to file: each kind of image, size, strip and metadata."""

import json

import numpy as np
import pytest
import pyvips
from PIL import Image

from d2csr import __version__
from d2csr.core.bundle import Bundle
from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.engine.engine import open_engine
from d2csr.engine.flat_regions import FlatRegionBlend
from d2csr.engine.model import load
from d2csr.images.reader import read_image, read_rgb8
from d2csr.images.resize import enlarge_bicubic
from d2csr.images.writer import write_rgb8
from d2csr.upscale.image_upscaler import ImageUpscaler, self_ensemble
from d2csr.upscale.jobs import Job
from d2csr.upscale.options import BatchOptions, OutputOptions, OutputSize
from d2csr.upscale.run import upscale_files
from tests.images.test_resize import looped

RANDOM = np.random.default_rng(0)
RGB8 = RANDOM.integers(0, 256, (9, 11, 3), dtype=np.uint8)
ALPHA8 = RANDOM.integers(0, 256, (9, 11, 1), dtype=np.uint8)
KINDS = {
    "RGB": (RGB8, "srgb"),
    "gray": (RGB8[..., 0], "b-w"),
    "gray in RGB": (np.repeat(RGB8[..., :1], 3, axis=2), "srgb"),
    "RGB with alpha": (np.concatenate([RGB8, ALPHA8], axis=2), "srgb"),
    "16 bit": (RANDOM.integers(0, 65536, (9, 11, 3)).astype(np.uint16), "rgb16"),
    "gray, 16 bit": (RANDOM.integers(0, 65536, (9, 11)).astype(np.uint16), "grey16"),
}
NATIVE, OTHER = OutputSize(), OutputSize(width=17)


def enlarge(bundle: Bundle, folder, *, kind: str = "RGB", **choices):
    """Return SR of an image of a kind, read from the file written; `a_bicubic.png` is beside."""
    pixels, interpretation = KINDS[kind]
    image = pyvips.Image.new_from_array(pixels).copy(interpretation=interpretation)
    image.write_to_file(str(folder / "a.png"))
    options = OutputOptions(bicubic=True, **choices)
    summary = upscale_files(
        [folder / "a.png"],
        folder / "out",
        model=bundle,
        options=options,
        batch=BatchOptions(overwrite=True),
    )
    assert summary.exit_code == 0, summary.errors
    return read_image(folder / "out" / "a.png")


def bicubic_levels(pixels: np.ndarray) -> np.ndarray:
    """Return the x2 enlargement in doubles, by loops; rounded between the passes."""
    columns = np.apply_along_axis(looped, 0, pixels, out_length=2 * len(pixels), factor=2.0)
    levels = np.floor(columns + 0.5).clip(0, 255)
    return np.apply_along_axis(looped, 1, levels, out_length=2 * pixels.shape[1], factor=2.0)


@pytest.mark.parametrize("size", [NATIVE, OTHER])
@pytest.mark.parametrize("kind", KINDS)
def test_strength_0_is_the_bicubic_file(bundle: Bundle, tmp_path, kind: str, size: OutputSize):
    sr = enlarge(bundle, tmp_path, kind=kind, strength=0.0, size=size)
    bicubic = read_image(tmp_path / "out" / "a_bicubic.png")
    assert np.array_equal(sr.pixels, bicubic.pixels)


@pytest.mark.parametrize("kind", ["RGB", "gray", "gray in RGB"])
def test_strength_0_of_8_bit_is_the_baseline(bundle: Bundle, tmp_path, kind: str):
    sr = enlarge(bundle, tmp_path, kind=kind, strength=0.0).pixels
    pixels = np.broadcast_to(np.atleast_3d(KINDS[kind][0]), (9, 11, 3))
    assert np.array_equal(np.broadcast_to(sr, (18, 22, 3)), enlarge_bicubic(pixels, 2))
    assert np.array_equal(
        load(bundle.folder).upscale(pixels, strength=0.0), enlarge_bicubic(pixels, 2)
    )


@pytest.mark.parametrize("strength", [0.5, 1.5])
def test_between_and_beyond_it_is_the_formula_rounded_once(
    bundle: Bundle, tmp_path, strength: float
):
    lr01 = RGB8 / np.float32(255)
    network = load(bundle.folder).engine.run(lr01).sr
    sr = FlatRegionBlend(lr01, scale=2).blend(network, first_row=0) * 255.0
    bicubic = bicubic_levels(RGB8)
    expected = (bicubic + strength * (sr - bicubic)).clip(0, 255)
    found = enlarge(bundle, tmp_path, strength=strength).pixels
    assert np.abs(found - expected).max() < 0.501
    assert np.array_equal(load(bundle.folder).upscale(RGB8, strength=strength), found)


@pytest.mark.parametrize("kind", KINDS)
def test_strength_1_changes_no_byte(bundle: Bundle, tmp_path, kind: str):
    enlarge(bundle, tmp_path, kind=kind, strength=1.0)
    upscale_files([tmp_path / "a.png"], tmp_path / "default", model=bundle)
    one, other = (tmp_path / folder / "a.png" for folder in ("out", "default"))
    assert one.read_bytes() == other.read_bytes()
    with Image.open(one) as image:
        assert 305 not in image.getexif()


def test_alpha_is_the_models_at_any_strength(bundle: Bundle, tmp_path):
    alphas = [
        enlarge(bundle, tmp_path, kind="RGB with alpha", strength=strength).alpha
        for strength in (0.0, 1.0)
    ]
    assert np.array_equal(*alphas)


def test_half_strength_of_16_bit_is_half_way_between(bundle: Bundle, tmp_path):
    sr = enlarge(bundle, tmp_path, kind="16 bit").pixels.astype(np.float64)
    bicubic = read_image(tmp_path / "out" / "a_bicubic.png").pixels.astype(np.float64)
    inside = (sr > 0) & (sr < 65535) & (bicubic > 0) & (bicubic < 65535)  # not clipped before
    assert inside.mean() > 0.5
    half = enlarge(bundle, tmp_path, kind="16 bit", strength=0.5).pixels
    assert np.abs(half - (sr + bicubic) / 2)[inside].max() <= 1


@pytest.mark.parametrize("options", [{}, {"size": OTHER}, {"self_ensemble": True}])
def test_strips_change_no_byte(bundle: Bundle, tmp_path, options):
    """A tall image in strips of three rows and in one."""
    write_rgb8(tmp_path / "a.png", RANDOM.integers(0, 256, (90, 7, 3), dtype=np.uint8))
    image, job = read_image(tmp_path / "a.png"), Job(tmp_path / "a.png", tmp_path / "b.png")
    engine = open_engine(bundle, precision="fp32")
    found = []
    for rows in (3, 90):
        wanted = OutputOptions(strength=0.4, **options)
        upscaler = ImageUpscaler(job, engine.with_strips(rows), wanted, image)
        strips = [strip for _, strip in upscaler.iter_rows()]
        assert len(strips) > 1 or rows == 90
        found.append(np.concatenate(strips))
    assert len(found[0]) == upscaler.out_size.height
    assert np.abs(found[0].astype(int) - found[1]).max() == 0


def test_a_self_ensemble_is_blended_after_its_mean(bundle: Bundle, tmp_path):
    lr01 = RGB8 / np.float32(255)
    engine = load(bundle.folder).engine
    mean = self_ensemble(engine, lr01, on_warning=pytest.fail) * 255.0
    bicubic = bicubic_levels(RGB8)
    found = enlarge(bundle, tmp_path, strength=0.5, self_ensemble=True).pixels
    assert np.abs(found - ((mean + bicubic) / 2).clip(0, 255)).max() < 0.501


def test_predictions_and_maps_stay_the_models(bundle: Bundle, tmp_path):
    everything = {"predictions": True, "weight_maps": True, "disagreement": True}
    files = []
    for strength in (1.0, 0.0):
        enlarge(bundle, tmp_path, strength=strength, **everything)
        paths = sorted((tmp_path / "out").glob("a_*.png"))
        files.append({path.name: path.read_bytes() for path in paths})
    assert len(files[0]) == 10
    assert files[0] == files[1]


@pytest.mark.parametrize("ext", ["png", "jpg", "webp", "tif", "avif"])
@pytest.mark.parametrize("before", ["Camera 1.0", None])
def test_the_file_notes_its_strength(bundle: Bundle, tmp_path, ext: str, before: str | None):
    exif = Image.Exif()
    if before is not None:
        exif[305] = before
    Image.fromarray(RGB8).save(tmp_path / "a.jpg", exif=exif)
    options = OutputOptions(ext=ext, strength=0.25, bicubic=True)
    upscale_files([tmp_path / "a.jpg"], tmp_path / "out", model=bundle, options=options)
    note = f"d2csr {__version__}: tiny, strength 0.25"
    with Image.open(tmp_path / "out" / f"a.{ext}") as image:
        assert image.getexif()[305] == (f"{before}; {note}" if before else note)
    with Image.open(tmp_path / "out" / f"a_bicubic.{ext}") as image:
        assert image.getexif().get(305) == before


@pytest.mark.parametrize("dry_run", [False, True])
def test_json_reports_the_strength(bundle: Bundle, tmp_path, capfd, dry_run: bool):
    write_rgb8(tmp_path / "a.png", RGB8)
    options, batch = OutputOptions(strength=1.25), BatchOptions(json=True, dry_run=dry_run)
    upscale_files([tmp_path], tmp_path / "out", model=bundle, options=options, batch=batch)
    record = json.loads(capfd.readouterr().out)
    assert (record["strength"], record["sr_size"]) == (1.25, list(Size(22, 18)))
    assert (tmp_path / "out").exists() is not dry_run


def test_a_strength_out_of_range_is_refused_before_any_work(bundle: Bundle):
    with pytest.raises(UsageError, match=r"can't be 1\.6"):
        OutputOptions(strength=1.6)
    with pytest.raises(UsageError, match="can't be -1"):
        load(bundle.folder).upscale(RGB8, strength=-1.0)


def test_flat_regions_stay_flat_beyond_the_model(bundle: Bundle, tmp_path):
    flat = np.full((9, 11, 3), (200, 30, 90), np.uint8)
    write_rgb8(tmp_path / "a.png", flat)
    options = OutputOptions(strength=1.5)
    upscale_files([tmp_path / "a.png"], tmp_path / "b.png", model=bundle, options=options)
    assert (read_rgb8(tmp_path / "b.png") == flat[0, 0]).all()
