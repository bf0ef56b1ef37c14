"""The bundle: a folder with a trained model, its graphs, and the model card that describes them.

`bundle.json` is written in version 2. Version 1 is read too, but its graphs in float32 alone: the
engine of that release rewrote them before it computed in bfloat16, this one runs them as they are.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PlainValidator

from d2csr.core.config import ModelConfig, ReceptiveField
from d2csr.core.errors import BundleError, D2csrError, quote
from d2csr.core.files import is_file, sha256_file, write_atomically
from d2csr.core.system_config import SystemConfig, is_system
from d2csr.core.typed_reader import STRICT, describe_error, parse_json, read_json

FORMAT_VERSION = 2
CARD_NAME = "bundle.json"
WEIGHTS_NAME = "model.safetensors"
NAME_CHARACTERS = 100  # of a model's name at most
_REMEDY = "Copy the bundle again, or write it again with `d2csr export`."


@dataclass(frozen=True)
class EvaluationScore:
    """The scores of a model on one set of pairs by one protocol.

    Attributes:
        data: the pairs, in words.
        protocol: a protocol's name.
        images: number of pairs.
        psnr_db: mean over the images.
        ssim: mean over the images.
        psnr_db_interval95: bootstrap interval of the mean.
        ssim_interval95: the same for SSIM.
        bicubic_psnr_db: PSNR of bicubic enlargement on the same pairs.
    """

    data: str
    protocol: str
    images: int
    psnr_db: float
    ssim: float
    psnr_db_interval95: tuple[float, float]
    ssim_interval95: tuple[float, float]
    bicubic_psnr_db: float | None = None


@dataclass(frozen=True)
class TrainingRun:
    """One of the trainings behind a model's weights.

    Attributes:
        name: of its recipe.
        steps: optimizer steps.
        seconds: wall time of these steps, validation and interruptions left out.
        curve: step -> PSNR of the averaged weights on the validation pairs (protocol `y`), in dB.
    """

    name: str
    steps: int
    seconds: float
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class ModelMetadata:
    """The part of a model card that can't be computed from the weights.

    Attributes:
        name: the model's name.
        licence: of the weights.
        data: the training data, in words.
        steps: optimizer steps of all stages, including those of the weights training started from.
        seed: of the run; None where unknown.
        machine: the machine it was trained on.
        preset: the named configuration it has, if any.
        description: the model's purpose, in one or two sentences.
        scores: results of evaluations.
        runs: the trainings, in order: each began with the weights of the one before.
    """

    name: str
    licence: str
    data: str
    steps: int | None = None
    seed: int | None = None
    machine: str | None = None
    preset: str | None = None
    description: str = ""
    scores: tuple[EvaluationScore, ...] = ()
    runs: tuple[TrainingRun, ...] = ()


@dataclass(frozen=True)
class PrecisionError:
    """The error of a lower precision, measured at export.

    Attributes:
        psnr_to_fp32_db: PSNR of its SR against the SR of float32, over all images.
        images: number of images compared; 0: an image of noise.
        psnr_loss_db: PSNR against the HR images that it loses, where that was measured; else None.
    """

    psnr_to_fp32_db: float
    images: int
    psnr_loss_db: float | None = None


@dataclass(frozen=True)
class ErrorModelFacts:
    """Facts about the error model of a bundle.

    Attributes:
        data: the pairs that it was fitted on, in words.
        images: their number.
        left_out: the parts that were left out in turn to measure `spearman`: `sets` or `images`.
        spearman: rank correlation with the true error of 6x6 blocks, mean over the images, by
            predictor: `uncertainty` (this model), `disagreement`, `gradient`.
    """

    data: str
    images: int
    left_out: str
    spearman: Mapping[str, float]


@dataclass(frozen=True)
class ModelCard:
    """The contents of `bundle.json`.

    Attributes:
        metadata: name, licence, training and scores.
        scale: SR pixels per LR pixel.
        parameters: number of trained values at inference, tails collapsed.
        config: the network's configuration: of D2C-SR, or of a system that it is compared with.
        receptive_field: of the graphs.
        graphs: role -> file. Either `trunk` (lr -> features) and `tail` (features, lr ->
            predictions, weights, sr), or, where the border has other kernels, `trunk`, `tail` and
            `border_tail` (features, lr -> predictions) and `fusion` (predictions -> weights, sr).
            Predictions are (1, 3 p, S h, S w), RGB by RGB.
            `_int8` after each: the same quantized, where the model has them.
            Of compared systems `whole` (lr -> sr) alone.
        files: file -> SHA-256 of every file but the card and its readme.
        precisions: precision -> its error; empty on older cards.
        uncertainty: facts about the error model in `uncertainty.json`; None if there is none.
    """

    metadata: ModelMetadata
    scale: int
    parameters: int
    config: ModelConfig | SystemConfig
    receptive_field: ReceptiveField
    graphs: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    precisions: Mapping[str, PrecisionError] = field(default_factory=dict)
    uncertainty: ErrorModelFacts | None = None

    @property
    def name(self) -> str:
        """Return the model's name."""
        return self.metadata.name

    @property
    def d2csr_config(self) -> ModelConfig:
        """Return the configuration of a D2C-SR network; TypeError for a compared system."""
        if isinstance(self.config, SystemConfig):
            raise TypeError(f"{self.name} is a network of {self.config.system}")
        return self.config


@dataclass(frozen=True)
class Bundle:
    """A model card and the folder that it describes."""

    folder: Path
    card: ModelCard

    @property
    def weights_sha256(self) -> str:
        """Return the hash that identifies these weights."""
        return self.card.files[WEIGHTS_NAME]

    def graph(self, role: str) -> Path:
        """Return the file of a graph; KeyError where the model has no such graph."""
        return self.folder / self.card.graphs[role]


def read_bundle(folder: Path) -> Bundle:
    """Return the bundle in a folder, after checking its card and the presence of its files.

    `verify_bundle` compares the hashes, as whoever opens the model does.

    Raises:
        BundleError: no card, a card of another version or schema, or missing files.
    """
    path = folder / CARD_NAME
    values = read_json(path, dict, error_type=BundleError, remedy=_REMEDY)
    card = _card(path, values)
    if missing := [name for name in card.files if not is_file(folder / name)]:
        raise BundleError(folder, f"lacks {', '.join(sorted(missing))}", remedy=_REMEDY)
    return Bundle(folder, card)


def write_card(folder: Path, card: ModelCard) -> None:
    """Write `bundle.json` atomically; the fields of the metadata are on its top level."""
    metadata = asdict(card.metadata)
    rest = {
        "scale": card.scale,
        "parameters": card.parameters,
        "config": card.config.to_dict(),
        "receptive_field": asdict(card.receptive_field),
        "graphs": dict(card.graphs),
        "files": dict(card.files),
        "precisions": {name: asdict(error) for name, error in card.precisions.items()},
    }
    if card.uncertainty is not None:
        rest["uncertainty"] = asdict(card.uncertainty)
    text = json.dumps({"format_version": FORMAT_VERSION, **metadata, **rest}, indent=1)
    write_atomically(folder / CARD_NAME, f"{text}\n".encode())


def verify_bundle(bundle: Bundle) -> None:
    """Check every file of a bundle against the hash on its card.

    A file is hashed once in a process, as long as its inode, size and times stay the same.

    Raises:
        BundleError: files are damaged, or those of another model; all of them are named.
    """
    hashes = bundle.card.files.items()
    try:
        damaged = [name for name, sha256 in hashes if _sha256(bundle.folder / name) != sha256]
    except OSError as error:
        raise BundleError(bundle.folder, f"can't be read: {error}", remedy=_REMEDY) from error
    if damaged:
        problem = f"doesn't match the hash of {', '.join(sorted(damaged))}"
        raise BundleError(bundle.folder, problem, remedy=_REMEDY)


_CLOCK_TICK_S = 0.1  # two changes in less time may leave the same time stamp; kernels take 10 ms


def _sha256(path: Path) -> str:
    """Return the hash of a file, from memory if the file hasn't changed."""
    status = path.stat()
    if time.time() - status.st_ctime < _CLOCK_TICK_S:
        return sha256_file(path)
    times_ns = (status.st_mtime_ns, status.st_ctime_ns)
    return _remembered_sha256(path, status.st_dev, status.st_ino, status.st_size, times_ns)


@lru_cache(maxsize=1024)
def _remembered_sha256(path: Path, *identity: object) -> str:
    del identity  # the key under which the hash is remembered
    return sha256_file(path)


def _card(path: Path, values: dict[str, Any]) -> ModelCard:
    """Return the model card in JSON values, after upgrading those of version 1."""
    version = values.get("format_version")
    if type(version) is not int or version not in (1, FORMAT_VERSION):
        known = f"this release reads versions 1 and {FORMAT_VERSION}"
        problem = f"has format version {quote(version)}; {known}"
        raise BundleError(path, problem, remedy="Use the d2csr release that wrote it.")
    try:
        current = _upgraded_from_1(values) if version == 1 else values
        card = parse_json(json.dumps(current), _CardFile).to_card()
        _check(card)
    except (KeyError, TypeError, AttributeError) as error:  # of the upgrade
        problem = f"doesn't follow the schema of version 1 ({type(error).__name__}: {error})"
        raise BundleError(path, problem, remedy=_REMEDY) from error
    except ValueError as error:
        raise BundleError(path, describe_error(error), remedy=_REMEDY) from error
    return card


def _to_config(values: Any) -> ModelConfig | SystemConfig:
    if not isinstance(values, dict):
        raise ValueError("must be an object")
    try:
        if is_system(values):
            return SystemConfig.from_dict(values)
        return ModelConfig.from_dict(values)
    except D2csrError as error:
        raise ValueError(error.problem) from error


_FileName = Annotated[str, Field(pattern=r"^[^/\x00-\x1f]{1,255}$")]
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Role = Literal[
    "trunk",
    "tail",
    "border_tail",
    "fusion",
    "trunk_int8",
    "tail_int8",
    "border_tail_int8",
    "fusion_int8",
    "whole",
]


class _CardFile(BaseModel):
    """The JSON of version 2; keys that it doesn't have are ignored."""

    model_config = STRICT

    name: str = Field(pattern=rf"^[^/\x00-\x1f\x7f]{{1,{NAME_CHARACTERS}}}$")
    licence: str
    data: str
    steps: int | None = Field(ge=0)
    seed: int | None
    machine: str | None
    preset: str | None
    description: str
    scores: tuple[EvaluationScore, ...]
    runs: tuple[TrainingRun, ...] = ()
    scale: int
    parameters: int = Field(ge=1)
    config: Annotated[ModelConfig | SystemConfig, PlainValidator(_to_config)]
    receptive_field: ReceptiveField
    graphs: dict[_Role, _FileName]
    files: dict[_FileName, _Hash]
    precisions: dict[str, PrecisionError] = {}
    uncertainty: ErrorModelFacts | None = None

    def to_card(self) -> ModelCard:
        """Return the card, whose metadata is an object of its own."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        metadata = {each.name: values.pop(each.name) for each in fields(ModelMetadata)}
        return ModelCard(metadata=ModelMetadata(**metadata), **values)


def _upgraded_from_1(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a card of version 1 under the keys of version 2."""
    field_of_1 = values["reach"]
    return {
        **{key: value for key, value in values.items() if key not in ("figures", "reach")},
        "scores": values["figures"],
        "receptive_field": {
            **{key: field_of_1[key] for key in field_of_1 if not key.startswith("frame_")},
            "border_strip_lr_px": field_of_1.get("frame_strip_lr_px", 0),
            "border_replaced_lr_px": field_of_1.get("frame_kept_lr_px", 0),
        },
        "graphs": {
            role.replace("tail_frame", "border_tail"): name
            for role, name in values["graphs"].items()
        },
        "precisions": {},  # measured with graphs that the engine of version 1 rewrote
    }


def _check(card: ModelCard) -> None:
    """Raise ValueError where parts of a card contradict each other."""
    if card.scale != card.config.scale:
        raise ValueError(f"scale {card.scale}, but config.scale {card.config.scale}")
    if card.receptive_field != card.config.receptive_field:
        raise ValueError("receptive_field isn't that of a network of this config")
    _check_roles(card)
    if unknown := {WEIGHTS_NAME, *card.graphs.values()} - set(card.files):
        raise ValueError(f"no hash of {sorted(unknown)}")
    if strays := [name for name in card.files if Path(name).name != name or name == ".."]:
        raise ValueError(f"files outside the folder: {strays}")


def _check_roles(card: ModelCard) -> None:
    """Raise ValueError for graphs that don't make up a network of the card's kind."""
    roles = set(card.graphs)
    if isinstance(card.config, SystemConfig):
        if roles != {"whole"}:
            raise ValueError(f"graphs {sorted(roles)}, but a system has the graph whole alone")
        return
    if "whole" in roles:
        raise ValueError("a graph whole, which only systems have")
    if {"trunk", "tail"} - roles:
        raise ValueError(f"graphs {sorted(roles)} lack trunk or tail")
    plain = {role for role in roles if not role.endswith("_int8")}
    if roles - plain not in (set(), {f"{role}_int8" for role in plain}):
        raise ValueError(f"graphs {sorted(roles)} aren't the same in int8")
    if ("border_tail" in roles) != ("fusion" in roles):
        raise ValueError(f"graphs {sorted(roles)} lack border_tail or fusion")
