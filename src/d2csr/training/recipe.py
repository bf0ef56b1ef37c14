"""The recipe: a typed tree of every choice of a training run; a YAML file overrides its defaults.

The sections `model`, `loss.triplet`, `loss.alpha` and `loss.wta` are the dataclasses that the
network and the loss are built from, so each setting is declared once.
"""

import os
from collections.abc import Callable, Container
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from d2csr.checkpoint.io import find_weights, read_tensors
from d2csr.core.bundle import ModelMetadata, TrainingRun
from d2csr.core.config import PRESETS, ModelConfig, find_config_errors
from d2csr.core.errors import CheckpointError, D2csrError, DataError, RecipeError
from d2csr.core.yaml_config import ConfigBase, Count, Share, describe_unknown_key, read_settings
from d2csr.engine.model import find_bundle, shipped_names
from d2csr.losses.reconstruction import ReconstructionName, WtaConfig
from d2csr.losses.triplet import AlphaSchedule, TripletConfig
from d2csr.training.data_config import DataConfig

RECIPE_NAME = "recipe.yaml"  # in a run's folder

StageKind = Literal["divergence", "convergence", "joint", "together"]
DivergenceName = Literal["triplet", "wta"]
_CONVERGENCE_STAGES: tuple[StageKind, ...] = ("convergence", "together")  # need that network
DEFAULT_PRESET = "paper"
_LISTED_KEYS = 20  # unknown ones of a section
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


def _section(
    settings: type[Any], *, find_errors: Callable[[dict[str, Any]], dict[str, str]] | None = None
) -> WrapValidator:
    """Return the validation of a section that is a dataclass; errors carry the key they are at.

    Pydantic builds the dataclass, but ignores unknown keys, and would let a D2csrError through.

    Args:
        settings: the dataclass.
        find_errors: more errors of its values, by key, than the types of its fields tell.
    """
    known = [field.name for field in fields(settings)]

    def validate(values: Any, build: Callable[[Any], Any]) -> Any:
        if not isinstance(values, dict):
            return build(values)
        given = {key: value for key, value in values.items() if key in known}
        unknown = [key for key in values if key not in known][:_LISTED_KEYS]
        problems = {key: describe_unknown_key(str(key), known) for key in unknown}
        problems |= find_errors(given) if find_errors else {}
        errors = [_error_at(key, problem) for key, problem in problems.items()]
        try:
            section = build(given)
        except ValidationError as error:
            errors += _other_errors(error, set(problems))
        except D2csrError as error:
            errors = errors or [_error_at(None, f"{error.problem}. {error.remedy}")]
        else:
            if not errors:
                return section
        raise ValidationError.from_exception_data(settings.__name__, errors)

    return WrapValidator(validate)


def _error_at(key: str | None, problem: str) -> InitErrorDetails:
    kind = PydanticCustomError("setting", "{problem}", {"problem": problem})
    return InitErrorDetails(type=kind, loc=() if key is None else (key,), input=None)


def _other_errors(error: ValidationError, known: Container[int | str]) -> list[InitErrorDetails]:
    """Return the errors at other keys than those known to be wrong."""
    return [
        InitErrorDetails(
            type=each["type"], loc=each["loc"], input=each["input"], ctx=each.get("ctx", {})
        )
        for each in error.errors()
        if each["loc"][0] not in known
    ]


def _apply_preset(values: Any) -> Any:
    """Return a network's settings: those of its preset, replaced by those given."""
    if not isinstance(values, dict):
        return values
    given = {key: value for key, value in values.items() if value is not None}
    name = given.pop("preset", DEFAULT_PRESET)
    if name not in PRESETS:
        problem = f"no preset is named {name!r}; choose one of {', '.join(PRESETS)}"
        raise ValidationError.from_exception_data("model", [_error_at("preset", problem)])
    return {**PRESETS[name], **given}


ModelSection = Annotated[
    ModelConfig,
    _section(ModelConfig, find_errors=find_config_errors),
    BeforeValidator(_apply_preset),
]


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
    """

    reconstruction: ReconstructionName = "mse"
    divergence: DivergenceName = "triplet"
    triplet: Annotated[TripletConfig, _section(TripletConfig)] = TripletConfig()
    alpha: Annotated[AlphaSchedule, _section(AlphaSchedule)] = AlphaSchedule()
    wta: Annotated[WtaConfig, _section(WtaConfig)] = WtaConfig()
    branch_weight: float = Field(default=1.0, ge=0)

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
            the divergence network (the authors' code).
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
    """Adam's settings.

    Attributes:
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        weight_decay: L2 penalty, added to the gradient.
        clip_norm: largest norm of all gradients together; None does not clip.
        ema_decay: decay of the exponential moving average of the weights; 0 averages nothing.
    """

    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
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
        model: the network: `preset`, and settings that differ from it. With initial weights and
            without a preset, what is left out is as in their network.
        precision: arithmetic of the forward pass; `auto` takes bf16 where the device has it.
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
    def _check_convergence(self) -> "Recipe":
        kinds = [stage.kind for stage in self.stages if stage.kind in _CONVERGENCE_STAGES]
        if kinds and not self.model.has_convergence:
            problem = f"model.convergence_channels is 0, so a {kinds[0]} stage has nothing to train"
            raise ValueError(f"{problem}; use divergence or joint")
        return self

    @field_validator("test_pooling_px")
    @classmethod
    def _check_pooling(cls, window: int | None) -> int | None:
        if problems := find_config_errors({"pooling_px": window}):
            raise ValueError(problems["pooling_px"])
        return window

    def inference_config(self) -> ModelConfig:
        """Return the configuration of the finished model's network."""
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
    with. With a preset, nothing is taken, nor from weights that aren't there: training reports it.

    Raises:
        CheckpointError: the weights are damaged, or missing although there is no `model`.
    """
    weights, given = values.get("initial_weights"), values.get("model", {})
    if not isinstance(weights, str) or not isinstance(given, dict) or "preset" in given:
        return values
    if given and not _find_weights(weights).exists():
        return values
    _, config = read_tensors(find_weights(find_initial_weights(weights)))
    inherited = {**config.to_dict(), "pooling_px": None}
    return {**values, "model": {**inherited, **given}}


def find_initial_weights(name_or_path: str) -> Path:
    """Return the path of a recipe's initial weights: a shipped model's by its name, or as given.

    Raises:
        CheckpointError: there is nothing.
        DataError: the path names a variable that is not set.
    """
    path = _find_weights(name_or_path)
    if not path.exists():
        problem = "is neither a shipped model, a file nor a folder"
        remedy = f"Shipped models: {', '.join(shipped_names())}."
        raise CheckpointError(path, problem, remedy)
    return path


def _find_weights(name_or_path: str) -> Path:
    is_shipped = name_or_path in shipped_names()
    return find_bundle(name_or_path) if is_shipped else expand_path(name_or_path)


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
