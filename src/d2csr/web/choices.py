"""Choices on the page: models of an enlargement, and the options of `upscale` that they mean."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from d2csr.core.bundle import Bundle
from d2csr.core.error_model import ERROR_MODEL_NAME
from d2csr.core.errors import UsageError
from d2csr.images.strength import MODEL_STRENGTH
from d2csr.upscale.options import Extension, OutputOptions, OutputSize

WIDTH = "To a width"
BEST = "best"
FORMATS: dict[str, Extension] = {
    "As the photo": "same",
    "PNG": "png",
    "JPEG": "jpg",
    "WebP": "webp",
    "TIFF": "tif",
    "AVIF": "avif",
}
MAPS = {"Uncertainty": "uncertainty", "Predictions": "predictions", "Weights": "weight_maps"}


@final
@dataclass(frozen=True)
class Models:
    """The models to choose from.

    Attributes:
        bundles: the models, those for photographs of any camera first among their scale.
    """

    bundles: Sequence[Bundle]

    @property
    def sizes(self) -> list[str]:
        """Return the enlargements to choose from: the scales of the models, and a width."""
        return [
            *(f"x{scale}" for scale in sorted({each.card.scale for each in self.bundles})),
            WIDTH,
        ]

    def choices(self, size: str) -> list[tuple[str, str]]:
        """Return the models of an enlargement as pairs of a label and a value."""
        fitting = [(each.card.name, str(each.folder)) for each in self._fitting(size)]
        return [("Chosen by the width", BEST), *fitting] if size == WIDTH else fitting

    def default(self, size: str) -> str:
        """Return the value of the model that is chosen first."""
        return self.choices(size)[0][1]

    def describe(self, value: str) -> str:
        """Return a sentence on a model, from its card."""
        if value == BEST:
            return "For photographs of any camera: the smallest model that reaches the width."
        card = self.find(value).card
        return card.metadata.description or f"Trained on {card.metadata.data}."

    def find(self, value: str) -> Bundle:
        """Return the model of a value.

        Raises:
            UsageError: there is none.
        """
        for each in self.bundles:
            if str(each.folder) == value:
                return each
        raise UsageError("Model", "is not one of the list", "Choose another, or reload the page.")

    def _fitting(self, size: str) -> list[Bundle]:
        fitting = [each for each in self.bundles if size in {WIDTH, f"x{each.card.scale}"}]
        return sorted(fitting, key=lambda each: not each.card.name.startswith("photo-"))


@final
@dataclass(frozen=True)
class Choices:
    """What is chosen on the page, as the browser sends it.

    Attributes:
        size: `x2` and the like, or `WIDTH`.
        width: in pixels, used for `WIDTH`.
        model: a value of `Models.choices`.
        strength: as `OutputOptions` has it.
        format: a key of `FORMATS`.
        maps: keys of `MAPS`.
    """

    size: str
    width: float | None
    model: str
    strength: float
    format: str
    maps: tuple[str, ...]

    def bundle_name(self, models: Models) -> str | None:
        """Return the folder of the model; None for the one that the width asks for."""
        return None if self.model == BEST else str(models.find(self.model).folder)

    def options(self, models: Models) -> tuple[OutputOptions, tuple[str, ...]]:
        """Return the options of `upscale`, and a sentence on each map that can't be made.

        Raises:
            UsageError: a value that the page doesn't offer, or no width.
        """
        if self.size == WIDTH:
            if not self.width:
                raise UsageError("Width", "is missing", "Enter a number of pixels.")
            size = OutputSize(width=int(self.width))
        else:
            size = OutputSize()
        if self.format not in FORMATS or not set(self.maps) <= set(MAPS):
            raise UsageError("Format", "is not one of the list", "Reload the page.")
        scale = 0 if self.model == BEST else models.find(self.model).card.scale
        options = OutputOptions(
            suffix=size.name_suffix(scale=scale),
            ext=FORMATS[self.format],
            strength=float(self.strength),
            size=size,
        )
        reasons = {name: self._lacks(name, models) for name in self.maps}
        made = {MAPS[name]: True for name, reason in reasons.items() if not reason}
        notes = tuple(f"{name}: {reason}" for name, reason in reasons.items() if reason)
        return replace(options, **made), notes

    def _lacks(self, name: str, models: Models) -> str:
        """Return the reason for which a map can't be made; empty if it can."""
        if self.size == WIDTH:
            return "only exists at the model's own size; choose x2, x3 or x4."
        card = models.find(self.model).card
        if name != "Uncertainty":
            return "" if card.config.leaves > 1 else "the model makes a single prediction."
        if ERROR_MODEL_NAME not in card.files:
            return "the model doesn't predict its error."
        return "" if self.strength == MODEL_STRENGTH else "only exists at strength 1."

    def describe(self, models: Models) -> str:
        """Return the choices in words."""
        size = f"{int(self.width or 0)} px wide" if self.size == WIDTH else self.size
        model = "" if self.model == BEST else f" by {models.find(self.model).card.name}"
        strength = "" if self.strength == MODEL_STRENGTH else f" at strength {self.strength:g}"
        return f"{size}{model}{strength}"
