"""The recipe: a typed tree of every choice of a training run; a YAML file overrides its defaults.

The sections `model`, `loss.triplet`, `loss.alpha`, `loss.wta` and `loss.adversarial` are the
dataclasses that the network and the loss are built from, so each setting is declared once. A model
with a `system` is a network of `models/systems.py`.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from d2csr.checkpoint.io import config_from_shapes, find_weights, read_file
from d2csr.checkpoint.systems import build_from_tensors, is_system_options
from d2csr.core.bundle import ModelMetadata, TrainingRun
from d2csr.core.config import ModelConfig, find_config_errors
from d2csr.core.errors import CheckpointError, DataError, RecipeError
from d2csr.core.yaml_config import ConfigBase, Count, Share, read_settings
from d2csr.engine.model import find_bundle, shipped_names
from d2csr.losses.adversarial import AdversarialConfig
from d2csr.losses.likelihood import NOISE_LEVELS
from d2csr.losses.reconstruction import ReconstructionName, WtaConfig
from d2csr.losses.triplet import AlphaSchedule, TripletConfig
from d2csr.models.systems import SystemModel, describe_network
from d2csr.training.data_config import DataConfig
from d2csr.training.model_config import (
    CONVERGENCE_STAGES,
    ModelSection,
    StageKind,
    section,
    stage_kinds,
)

RECIPE_NAME = "recipe.yaml"  # in a run's folder

DivergenceName = Literal["triplet", "wta"]
# Recipe keys of the first release: section -> old key -> new key; the empty section is the top.
_RENAMED_KEYS = {
    "": {"pace": "intervals", "initial": "initial_weights"},
    "data": {"batch": "batch_size"},
    "optimizer": {"average": "ema_decay"},
    "intervals": {
        "validate_every": "validation",
        "pictures": "images",
        "keep": "keep_checkpoints",
    },
}


class LikelihoodConfig(ConfigBase):
    """Settings of the likelihood of SRFlow.

    Attributes:
        noise_levels: levels per color that uniform noise on HR hides; None adds no noise.
        frozen_encoder: share of the stage in which the encoder stays as it is.
        temperature: of the samples in TensorBoard, drawn with the recipe's seed; the SR has 0.
    """

    noise_levels: Count | None = NOISE_LEVELS
    frozen_encoder: Share = 0.5
    temperature: float = Field(default=0.9, ge=0, le=2)


class LossConfig(ConfigBase):
    """The loss that is minimised.

    Attributes:
        reconstruction: distance of images to HR.
        divergence: what makes predictions differ: `triplet`, the paper's term, added to their
            distance to HR; or `wta`, which weights that distance patch by patch so that the
            nearest prediction learns most (relaxed winner-takes-all).
        triplet: the term of Eq. 5.
        alpha: its weight over the steps of the whole run; 0 leaves it out.
        wta: settings of `wta`; unused with `triplet`.
        branch_weight: weight of the predictions' own loss in the joint stage.
        system: distance to HR in a `network` stage; `own` is the loss of the system's paper
            (docs/systems.md), which is L1 for ESRGAN's and SRFlow's networks.
        adversarial: weights of the terms of an `adversarial` stage.
        likelihood: settings of a `likelihood` stage.
    """

    reconstruction: ReconstructionName = "mse"
    divergence: DivergenceName = "triplet"
    triplet: Annotated[TripletConfig, section(TripletConfig)] = TripletConfig()
    alpha: Annotated[AlphaSchedule, section(AlphaSchedule)] = AlphaSchedule()
    wta: Annotated[WtaConfig, section(WtaConfig)] = WtaConfig()
    branch_weight: float = Field(default=1.0, ge=0)
    system: Literal["own"] | ReconstructionName = "own"
    adversarial: Annotated[AdversarialConfig, section(AdversarialConfig)] = AdversarialConfig()
    likelihood: LikelihoodConfig = LikelihoodConfig()

    @model_validator(mode="after")
    def _check_divergence(self) -> "LossConfig":
        if self.divergence == "wta" and self.alpha.alpha > 0:
            raise ValueError("alpha is the weight of the triplet term; leave it out with wta")
        return self


class StageConfig(ConfigBase):
    """One stage: the network it trains, its length and its learning rate.

    Attributes:
        kind: `divergence`; `convergence` with the divergence network frozen; `joint`, both on the
            fused image; `together`, both on every batch, without the fusion's gradient in
            the divergence network (the authors' code). Of a compared system: `network`, by its
            distance to HR; `adversarial`, against a discriminator (ESRGAN); `likelihood` (SRFlow,
            whose `network` stage trains the encoder).
        steps: batches of the stage.
        learning_rate: at the stage's start, after the warm-up.
        schedule: `cosine` to `final_share` of the rate, `halving`, or `constant`.
        final_share: of the rate, at the end of `cosine`.
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
    def _check_halving(self) -> "StageConfig":
        if (self.schedule == "halving") != (self.halve_every is not None):
            raise ValueError("halve_every belongs to schedule: halving, and is needed there")
        return self


class OptimizerConfig(ConfigBase):
    """Settings of the optimizer.

    Attributes:
        name: `adam`, or `sgd` with momentum.
        beta1: Adam's decay of the first moment.
        beta2: Adam's decay of the second moment.
        momentum: of `sgd`.
        weight_decay: L2 penalty, added to the gradient.
        clip_norm: largest norm of all gradients together; None does not clip.
        clip_step: largest gradient times rate (VDSR, arXiv:1511.04587, 3.2); None does not clip.
        ema_decay: decay of the exponential moving average of the weights; 0 averages nothing.
    """

    name: Literal["adam", "sgd"] = "adam"
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    clip_step: float | None = Field(default=None, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)


class IntervalsConfig(ConfigBase):
    """Steps between two log lines, validations and checkpoints.

    Attributes:
        log: a line in the log.
        validation: a validation; the last step always has one.
        save: a checkpoint; stage ends always have one.
        images: images in TensorBoard; 0 for none.
        keep_checkpoints: number of checkpoints that stay, the newest.
    """

    log: Count = 50
    validation: Count = 1000
    save: Count = 500
    images: int = Field(default=0, ge=0)
    keep_checkpoints: Count = 2


class Recipe(ConfigBase):
    """A whole run.

    Attributes:
        name: the bundle's name.
        seed: of weights and crops.
        model: the network: `preset`, and settings that differ from it; or `system`, `size` and
            sizes that differ from it. With initial weights and without a preset or system, what is
            left out is as in their network.
        precision: arithmetic of the forward pass; `auto` takes bf16 where the device has it, and
            fp32 for compared systems.
        compile: compile the network with `torch.compile`.
        test_pooling_px: window, odd, that the finished model's channel attention averages over
            (validation and bundle; TLC, arXiv:2112.04491); None leaves it as trained.
        initial_weights: weights to start from: a shipped model by its name, or the path of a
            bundle, run or checkpoint; None for random ones.
        grow_initial_weights: take them from a smaller network, or one of another scale, too: added
            channels, groups and blocks don't change its images; another scale's tails and
            convergence network are initialized at random.
        licence: of the trained weights, for the card.
        data_note: the training data in words, for the card.
        description: the model's purpose, for the card.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    model: ModelSection
    data: DataConfig
    loss: LossConfig = LossConfig()
    stages: tuple[StageConfig, ...]
    optimizer: OptimizerConfig = OptimizerConfig()
    intervals: IntervalsConfig = IntervalsConfig()
    precision: Literal["auto", "bf16", "fp32", "fp64"] = "auto"
    compile: bool = False
    test_pooling_px: Count | None = None
    initial_weights: str | None = None
    grow_initial_weights: bool = False
    licence: str = "unstated"
    data_note: str = "unstated"
    description: str = ""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Return the values, keys of the first release renamed, with the initial weights' model."""
        if not isinstance(values, dict):
            return values
        renamed = _rename_keys(values, _RENAMED_KEYS[""])
        return _inherit_model(
            {
                key: _rename_keys(value, _RENAMED_KEYS.get(key, {}))
                if isinstance(value, dict)
                else value
                for key, value in renamed.items()
            }
        )

    @field_validator("stages")
    @classmethod
    def _check_stages(cls, stages: tuple[StageConfig, ...]) -> tuple[StageConfig, ...]:
        if not stages:
            raise ValueError("at least one stage is needed")
        return stages

    @model_validator(mode="after")
    def _check_kinds(self) -> "Recipe":
        possible = stage_kinds(self.model)
        kinds = [stage.kind for stage in self.stages]
        if wrong := [kind for kind in kinds if kind not in possible]:
            if isinstance(self.model, ModelConfig) and wrong[0] in CONVERGENCE_STAGES:
                problem = "model.convergence_channels is 0, so a"
                problem = f"{problem} {wrong[0]} stage has nothing to train"
                raise ValueError(f"{problem}; use divergence or joint")
            problem = f"a {wrong[0]} stage can't train this network"
            raise ValueError(f"{problem}; use {' or '.join(possible)}")
        return self

    @field_validator("test_pooling_px")
    @classmethod
    def _check_pooling(cls, window: int | None) -> int | None:
        if problems := find_config_errors({"pooling_px": window}):
            raise ValueError(problems["pooling_px"])
        return window

    @model_validator(mode="after")
    def _check_settings_of_d2csr(self) -> "Recipe":
        if isinstance(self.model, SystemModel):
            for name in ("test_pooling_px", "grow_initial_weights"):
                if getattr(self, name):
                    raise ValueError(f"{name} is a setting of D2C-SR alone; leave it out")
        return self

    @property
    def d2csr(self) -> ModelConfig:
        """Return the network, which is one of D2C-SR; RecipeError for a compared system."""
        if isinstance(self.model, SystemModel):
            problem = f"is a network of {self.model.system}, not of D2C-SR"
            raise RecipeError("model", problem, remedy="Give a preset.")
        return self.model

    def inference_model(self) -> ModelConfig | SystemModel:
        """Return the finished model's network."""
        if isinstance(self.model, SystemModel):
            return self.model
        return replace(self.model, pooling_px=self.test_pooling_px or self.model.pooling_px)

    @property
    def steps(self) -> int:
        """Return the number of steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def describe_model(
        self,
        *,
        steps: int | None = None,
        machine: str | None = None,
        runs: tuple[TrainingRun, ...] = (),
    ) -> ModelMetadata:
        """Return the metadata of a model trained by the recipe.

        Args:
            steps: optimizer steps behind the weights, all runs together.
            machine: the machine they were trained on.
            runs: the trainings, in order.
        """
        return ModelMetadata(
            name=self.name,
            licence=self.licence,
            data=self.data_note,
            steps=steps,
            seed=self.seed,
            machine=machine,
            description=self.description,
            runs=runs,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values, defaults included."""
        return self.model_dump(mode="json")


def _rename_keys(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return the values under their new names; a name given both ways stays an unknown key."""
    return {
        key if names.get(key, key) in values else names[key]: value for key, value in values.items()
    }


def _inherit_model(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values; what `model` leaves out is taken from the initial weights.

    Except for the pooling window, which holds no weights: a finished model has the one it is used
    with. With a preset or a system, nothing is taken, nor from weights that aren't there, which
    training reports.

    Raises:
        CheckpointError: the weights are damaged, or missing although there is no `model`.
    """
    weights, given = values.get("initial_weights"), values.get("model", {})
    if not isinstance(weights, str) or not isinstance(given, dict):
        return values
    if {"preset", "system"} & set(given) or (given and not weights_path(weights).exists()):
        return values
    path = find_weights(find_initial_weights(weights))
    return {**values, "model": {**_read_model(path), **given}}


def _read_model(path: Path) -> dict[str, Any]:
    """Return the settings of the network in a weights file, as the section `model` has them."""
    tensors, options = read_file(path)
    if is_system_options(options):
        return describe_network(build_from_tensors(tensors, options, where=path)).to_dict()
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    return {**config_from_shapes(shapes, options, where=path).to_dict(), "pooling_px": None}


def find_initial_weights(name_or_path: str) -> Path:
    """Return the path of a recipe's initial weights: a shipped model's by its name, or as given.

    Raises:
        CheckpointError: there is nothing.
        DataError: the path names a variable that is not set.
    """
    path = weights_path(name_or_path)
    if not path.exists():
        problem = "is neither a shipped model, a file nor a folder"
        remedy = f"Shipped models: {', '.join(shipped_names())}."
        raise CheckpointError(path, problem, remedy)
    return path


def weights_path(name: str) -> Path:
    """Return the path of a recipe's initial weights, whether there is anything or not."""
    return find_bundle(name) if name in shipped_names() else expand_path(name)


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a YAML file; keys of the first release are read too.

    Raises:
        RecipeError: unreadable, no YAML, or errors in it; all of them, each with its line and, for
            an unknown key, the nearest known one.
    """
    remedy = "Give a YAML file; `d2csr train --example` lists examples."
    return read_settings(path, Recipe, error_type=RecipeError, remedy=remedy)


def expand_path(path: str) -> Path:
    """Return a recipe's path with `$NAME` and `~` filled in.

    Raises:
        DataError: it names a variable that is not set.
    """
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        remedy = "Set it; pairs may also be given with --data and --validate-on."
        raise DataError(path, "names a variable that is not set", remedy=remedy)
    return Path(expanded).expanduser()
