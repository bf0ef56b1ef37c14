"""Which model a call means."""

from dataclasses import replace

import pytest

from d2csr.core.bundle import Bundle
from d2csr.core.errors import ModelNameError, UsageError
from d2csr.upscale import run
from d2csr.upscale.run import select_bundle


@pytest.fixture(autouse=True)
def _shipped(bundle: Bundle, monkeypatch):
    """Ship three models that differ in nothing but their cards."""
    sizes = {"small": (3, 200), "base": (3, 900), "phone": (2, 250)}
    models = []
    for name, (scale, parameters) in sizes.items():
        metadata = replace(bundle.card.metadata, name=name)
        card = replace(bundle.card, metadata=metadata, scale=scale, parameters=parameters)
        models.append(replace(bundle, card=card))
    monkeypatch.setattr(run, "shipped_bundles", lambda: models)


def test_a_name_is_enough(bundle: Bundle):
    assert select_bundle(str(bundle.folder), None) == select_bundle(str(bundle.folder), 2) == bundle


def test_a_scale_takes_the_smallest_shipped_model():
    assert select_bundle(None, 3).card.name == "small"


def test_a_name_of_another_scale_is_refused(bundle: Bundle):
    with pytest.raises(UsageError, match="is a model for x2, not x3"):
        select_bundle(str(bundle.folder), 3)


def test_a_scale_that_does_not_ship_is_told_those_that_do():
    with pytest.raises(ModelNameError, match=r"x4: no .*small \(x3\), base \(x3\), phone \(x2\)"):
        select_bundle(None, 4)


def test_neither_name_nor_scale_is_told_the_names():
    with pytest.raises(UsageError, match=r"is missing\. Add -n NAME\. .*: small \(x3\)"):
        select_bundle(None, None)
