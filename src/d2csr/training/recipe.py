"""The recipe: a typed tree of every choice a run makes; YAML says only what differs.

Recipe files: YAML read into a recipe.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from d2csr.core.config import Base, ModelConfig, TailBorder, preset
from d2csr.core.errors import D2csrError, RecipeError
from d2csr.core.yaml_config import read_settings
from d2csr.losses.reconstruction import ReconstructionName
from d2csr.losses.triplet import AlphaSchedule, Luma, Statistics, TripletConfig

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
StageKind = Literal["divergence", "convergence", "joint", "together"]


class ConfigBase(BaseModel):
    """A part of the recipe: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPart(ConfigBase):
    """The network: a preset, and what differs from it; see `core.config.ModelConfig`."""

    scale: Literal[2, 3, 4, 8]
    preset: str = "paper"
    channels: Count | None = None
    depth: Count | None = None
    children: Count | None = None
    groups: Count | None = None
    blocks: Count | None = None
    convergence_channels: Count | None = None
    deep_residual: bool | None = None
    base: Base | None = None
    mean: Literal["fixed", "convolution"] | None = None
    tail: Literal["expanded", "collapsed"] | None = None
    tail_border: TailBorder | None = None
    pooling_px: Count | None = None
    convergence_last_relu: bool | None = None

    @model_validator(mode="after")
    def _fits(self) -> "ModelPart":
        try:
            self.config()
        except D2csrError as error:
            raise ValueError(f"{error.problem}. {error.remedy}") from error
        return self

    def config(self) -> ModelConfig:
        """Return the network's configuration."""
        chosen = self.model_dump(exclude={"scale", "preset"}, exclude_none=True)
        return ModelConfig.from_dict({**preset(self.preset, self.scale).to_dict(), **chosen})


class DataConfig(ConfigBase):
    """Where the pairs lie, and how crops are cut from them.

    Attributes:
        train: a manifest or any layout `d2csr data check` knows; `$NAME` and `~` are expanded.
        validate_on: pairs to choose among checkpoints by; None validates nothing.
        patch_px: side of an LR crop.
        batch: crops of a step, all devices together.
        mask_limit: largest masked share of a crop, 0..1.
    """

    train: str
    validate_on: str | None = None
    patch_px: Count = 96
    batch: Count = 4
    mask_limit: Share = 0.0


class TripletPart(ConfigBase):
    """The triplet term; see `losses.triplet.TripletConfig`."""

    margins: tuple[float, ...] = (5e-5, 2e-5)
    theta: float = 0.8
    luma: Luma = "y"
    statistics: Statistics = "image"
    absolute: bool = True

    def settings(self) -> TripletConfig:
        """Return the settings that the loss takes."""
        return TripletConfig(**self.model_dump())


class AlphaConfig(ConfigBase):
    """The weight of the triplet term over the steps; see `losses.triplet.AlphaSchedule`."""

    alpha: float = 0.0
    start: int = 0
    active: Count | None = None
    period: Count | None = None
    halve_every: Count | None = None

    def schedule(self) -> AlphaSchedule:
        """Return the schedule, counted in steps of the whole run."""
        return AlphaSchedule(**self.model_dump())


class LossConfig(ConfigBase):
    """What is minimised.

    Attributes:
        reconstruction: distance of images to HR.
        triplet: the term of Eq. 5.
        alpha: its weight over the steps; 0 leaves it out.
        branch_weight: weight of the predictions' own loss in the joint stage.
    """

    reconstruction: ReconstructionName = "mse"
    triplet: TripletPart = TripletPart()
    alpha: AlphaConfig = AlphaConfig()
    branch_weight: float = Field(default=1.0, ge=0)


class StageConfig(ConfigBase):
    """One stage: which network is trained, for how long, at which rate.

    Attributes:
        kind: `divergence`; `convergence` with the divergence network frozen; `joint`, both on the
            fused image; `together`, both on every batch, the fusion's loss kept from the
            divergence network (the authors' code).
        steps: batches of the stage.
        learning_rate: at the stage's start, after the warm-up.
        schedule: `cosine` to `final_share` of the rate, `halving`, or `constant`.
        final_share: of the rate, what cosine ends at.
        halve_every: steps after which `halving` halves.
        warmup: steps over which the rate rises from 0.
    """

    kind: StageKind
    steps: Count
    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Literal["cosine", "halving", "constant"] = "constant"
    final_share: Share = 0.0
    halve_every: Count | None = None
    warmup: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _halving_has_a_length(self) -> "StageConfig":
        if (self.schedule == "halving") != (self.halve_every is not None):
            raise ValueError("halve_every belongs to schedule: halving, and is needed there")
        return self


class OptimizerConfig(ConfigBase):
    """Adam's settings.

    Attributes:
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        weight_decay: of the gradient's kind (L2).
        clip_norm: largest norm of all gradients together; None does not clip.
        average: decay of the exponential moving average of the weights; 0 keeps none.
    """

    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    average: float = Field(default=0.999, ge=0, lt=1)


class IntervalsConfig(ConfigBase):
    """How often things happen, in steps.

    Attributes:
        log: a line in the log.
        validate_every: a validation; the last step always has one.
        save: a checkpoint; stage ends always have one.
        images: images in TensorBoard; 0 for none.
        keep: checkpoints kept, the newest.
    """

    log: Count = 50
    validate_every: Count = 1000
    save: Count = 500
    images: int = Field(default=0, ge=0)
    keep: Count = 2


class Recipe(ConfigBase):
    """A whole run.

    Attributes:
        name: what the bundle will be called.
        seed: of weights and crops.
        precision: arithmetic of the forward pass; `auto` takes bf16 where the processor has it.
        compile: compile the network with `torch.compile`.
        test_pooling_px: window, odd, that the finished model's channel attention averages over
            (validation and bundle; TLC, arXiv:2112.04491); None leaves it as trained.
        initial: weights to start from (a bundle, run or checkpoint), or None.
        licence: of the trained weights, for the card.
        data_note: what the weights were trained on, for the card.
        description: what the model is for, for the card.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    model: ModelPart
    data: DataConfig
    loss: LossConfig = LossConfig()
    stages: tuple[StageConfig, ...]
    optimizer: OptimizerConfig = OptimizerConfig()
    intervals: IntervalsConfig = IntervalsConfig()
    precision: Literal["auto", "bf16", "fp32", "fp64"] = "auto"
    compile: bool = False
    test_pooling_px: Count | None = None
    initial: str | None = None
    licence: str = "unstated"
    data_note: str = "unstated"
    description: str = ""

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        if not self.stages:
            raise ValueError("stages: at least one is needed")
        try:
            self.finished_config()
        except D2csrError as error:
            raise ValueError(f"test_{error.problem}") from error
        for make in (self.loss.triplet.settings, self.loss.alpha.schedule):
            try:
                make()
            except D2csrError as error:
                raise ValueError(f"{error.where}: {error.problem}. {error.remedy}") from error
        return self

    def finished_config(self) -> ModelConfig:
        """Return the network's configuration as the finished model has it."""
        config = self.model.config()
        return replace(config, pooling_px=self.test_pooling_px or config.pooling_px)

    @property
    def steps(self) -> int:
        """Return the steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def plain(self) -> dict[str, Any]:
        """Return the recipe as plain values, every default written out."""
        return self.model_dump(mode="json")


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a YAML file.

    Raises:
        RecipeError: unreadable, no YAML, or errors in it; all of them, each with its line and, for
            an unknown key, the nearest known one.
    """
    remedy = "Give a YAML file; experiments/ has examples."
    return read_settings(path, Recipe, error_type=RecipeError, remedy=remedy)
