"""Choices: what the page offers is what `upscale` takes."""

from dataclasses import replace

import pytest

from d2csr.core.errors import UsageError
from d2csr.core.system_config import SystemConfig
from d2csr.engine.model import shipped_bundles
from d2csr.upscale.options import OutputOptions, OutputSize
from d2csr.web.choices import BEST, WIDTH, Choices, Models

MODELS = Models(shipped_bundles())
PLAIN = Choices("x2", None, MODELS.default("x2"), 1.0, "As the photo", ())


def test_models_are_those_of_the_scale_the_one_for_any_camera_first():
    assert MODELS.sizes == ["x2", "x3", "x4", WIDTH]
    assert [name for name, _ in MODELS.choices("x2")] == ["photo-x2", "city100-iphone-x2"]
    assert MODELS.describe(MODELS.default("x4")) == "For photographs of any camera, x4."
    assert len(MODELS.choices(WIDTH)) == 1 + len(MODELS.bundles)


def test_a_width_lets_upscale_choose_the_model():
    choices = replace(PLAIN, size=WIDTH, width=3000.0, model=BEST, maps=("Uncertainty",))
    options, notes = choices.options(MODELS)
    assert options == OutputOptions(suffix="_3000w", ext="same", size=OutputSize(width=3000))
    assert choices.bundle_name(MODELS) is None
    assert notes == ("Uncertainty: only exists at the model's own size; choose x2, x3 or x4.",)
    with pytest.raises(UsageError, match="Enter a number of pixels"):
        replace(choices, width=None).options(MODELS)


def test_maps_that_cannot_be_made_are_left_out_with_the_reason():
    everything = ("Uncertainty", "Predictions", "Weights")
    options, notes = replace(PLAIN, maps=everything, strength=0.5).options(MODELS)
    assert (options.predictions, options.weight_maps, options.uncertainty) == (True, True, False)
    assert notes == ("Uncertainty: only exists at strength 1.",)
    options, notes = replace(PLAIN, maps=everything).options(MODELS)
    assert options.uncertainty
    assert notes == ()


def test_a_model_without_predictions_or_error_model_has_no_maps():
    bundle = MODELS.find(PLAIN.model)
    config = SystemConfig("SRCNN", 2, {}, 6, 1, 64.0, 1.0)
    files = {name: value for name, value in bundle.card.files.items() if "uncert" not in name}
    single = Models([replace(bundle, card=replace(bundle.card, config=config, files=files))])
    options, notes = replace(PLAIN, maps=("Uncertainty", "Weights")).options(single)
    assert not options.needs_predictions
    assert notes == (
        "Uncertainty: the model doesn't predict its error.",
        "Weights: the model makes a single prediction.",
    )


@pytest.mark.parametrize(
    "change", [{"model": "/etc"}, {"format": "exe"}, {"maps": ("x",)}, {"strength": 9.0}]
)
def test_values_that_the_page_does_not_offer_are_refused(change):
    choices = replace(PLAIN, **{"maps": ("Weights",), **change})
    with pytest.raises(UsageError):
        choices.options(MODELS)


def test_choices_in_words():
    assert PLAIN.describe(MODELS) == "x2 by photo-x2"
    wide = replace(PLAIN, size=WIDTH, width=3000, model=BEST, strength=0.5)
    assert wide.describe(MODELS) == "3000 px wide at strength 0.5"
