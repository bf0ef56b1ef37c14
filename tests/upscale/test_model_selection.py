"""The model that a call means."""

from dataclasses import replace

import numpy as np
import pytest

from d2csr.core.bundle import Bundle
from d2csr.core.errors import ModelNameError, UsageError
from d2csr.images.writer import write_rgb8
from d2csr.upscale import model_selection
from d2csr.upscale.model_selection import select_bundle
from d2csr.upscale.options import NATIVE_SIZE, OutputSize


@pytest.fixture(autouse=True)
def _shipped(bundle: Bundle, monkeypatch):
    """Ship models that differ in nothing but their cards."""
    models = []
    for name, scale in {"phone": 2, "photo-base-x4": 4, "photo-x2": 2, "photo-x4": 4}.items():
        metadata = replace(bundle.card.metadata, name=name)
        models.append(replace(bundle, card=replace(bundle.card, metadata=metadata, scale=scale)))
    monkeypatch.setattr(model_selection, "shipped_bundles", lambda: models)


@pytest.fixture
def photos(tmp_path):
    """Return a folder with images of 20x10 and 40x10 pixels and a file that is no image."""
    folder = tmp_path / "photos"
    for width in (20, 40):
        write_rgb8(folder / f"{width}.png", np.zeros((10, width, 3), np.uint8))
    (folder / "damaged.png").write_bytes(b"no image")
    return folder


def name_of(scale=None, size=NATIVE_SIZE, inputs=()):
    inputs = [str(each) for each in inputs]
    return select_bundle(None, scale, size=size, inputs=inputs).card.name


def test_a_name_is_enough(bundle: Bundle):
    assert select_bundle(str(bundle.folder), None) == select_bundle(str(bundle.folder), 2) == bundle


def test_without_a_name_the_model_for_photographs_is_taken():
    assert name_of() == "photo-x2"
    assert name_of(scale=4) == "photo-x4"


@pytest.mark.parametrize(
    ("factor", "name"), [(0.5, "photo-x2"), (2.0, "photo-x2"), (2.1, "photo-x4"), (9, "photo-x4")]
)
def test_a_factor_takes_the_smallest_scale_that_reaches_it(factor, name):
    assert name_of(size=OutputSize(outscale=float(factor))) == name


@pytest.mark.parametrize(
    ("width", "height", "name"),
    [
        (40, None, "photo-x2"),
        (41, None, "photo-x4"),
        (None, 20, "photo-x2"),
        (30, 31, "photo-x2"),  # 30 wide at most
        (99, 31, "photo-x4"),
    ],
)
def test_a_width_or_height_is_compared_with_every_image(photos, width, height, name):
    assert name_of(size=OutputSize(width=width, height=height), inputs=[photos]) == name
    no_images = name_of(size=OutputSize(width=99), inputs=[photos / "damaged.png"])
    assert no_images == "photo-x2"


def test_images_behind_urls_may_be_of_any_size(monkeypatch):
    listed = [("s3://bucket/a.png", "a.png")]
    monkeypatch.setattr(model_selection, "list_inputs", lambda *_, **__: iter(listed))
    assert name_of(size=OutputSize(width=9), inputs=["s3://bucket"]) == "photo-x4"


def test_a_name_of_another_scale_is_refused_with_the_nearest_way(bundle: Bundle):
    with pytest.raises(
        UsageError, match=r"is a model for x2, not x3\. Replace -s 3 by --outscale 3"
    ):
        select_bundle(str(bundle.folder), 3)


@pytest.mark.parametrize(("scale", "name"), [(3, "photo-x4"), (8, "photo-x4"), (1, "photo-x2")])
def test_a_scale_without_a_default_model_is_answered_with_the_nearest_way(scale, name):
    problem = rf"x{scale}: no model for photographs has this scale.*"
    remedy = rf"Replace -s {scale} by --outscale {scale}, which resizes the result of {name}\."
    with pytest.raises(ModelNameError, match=problem + remedy):
        select_bundle(None, scale)
    assert name_of(size=OutputSize(outscale=float(scale))) == name  # the advice holds


def test_without_shipped_models_the_error_says_so(monkeypatch):
    monkeypatch.setattr(model_selection, "shipped_bundles", list)
    with pytest.raises(ModelNameError, match="Shipped models: none"):
        select_bundle(None)
