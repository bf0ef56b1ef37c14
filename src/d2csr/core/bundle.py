"""The bundle: a folder with a trained model, its graphs, and the card that says what they are."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from d2csr.core.config import ModelConfig
from d2csr.core.errors import BundleError, D2csrError
from d2csr.core.files import sha256_file, write_atomically

FORMAT_VERSION = 2
CARD_NAME = "bundle.json"
WEIGHTS_NAME = "model.safetensors"


@dataclass(frozen=True)
class EvaluationScore:
    """What a model scores on one set of pairs by one protocol.

    Attributes:
        data: the pairs, in words.
        protocol: a protocol's name.
        images: how many pairs.
        psnr_db: mean over the images.
        ssim: mean over the images.
        psnr_db_interval95: bootstrap interval of the mean.
        ssim_interval95: the same for SSIM.
        bicubic_psnr_db: what bicubic enlargement scores there.
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
class ModelMetadata:
    """What only those who trained a model know of it.

    Attributes:
        name: what people call the model.
        licence: of the weights.
        data: what it was trained on.
        steps: optimizer steps, all stages together, those behind the weights it began with too.
        seed: of the run; None where unknown.
        machine: what it was trained on.
        preset: the named configuration it has, if any.
        description: one or two sentences: what it is for.
        scores: what it scores.
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


@dataclass(frozen=True)
class PrecisionError:
    """How far a coarser precision is from float32, measured at export.

    Attributes:
        psnr_between_db: of SR in the one against SR in the other, over all images.
        images: how many were compared; 0: an image of noise.
        cost_db: by how much PSNR against the truth is lower, where that was measured; else None.
    """

    psnr_between_db: float
    images: int
    cost_db: float | None = None


@dataclass(frozen=True)
class ReceptiveField:
    """How far the graphs look, so that they may run on parts of an image.

    Attributes:
        trunk_lr_px: LR pixels that a leaf feature sees to each side; None: the whole image.
        tail_lr_px: LR pixels that the base and the tail see to each side.
        fusion_sr_px: SR pixels that the convergence network sees to each side.
        halo_lr_rows: LR rows needed beyond a band so that its SR rows are exact: both together.
        border_strip_lr_px: width of the strips at the frame that `tail_frame` runs on; 0: none.
        border_kept_lr_px: how much of a strip, from the frame inwards, replaces what `tail` says.
    """

    trunk_lr_px: int | None
    tail_lr_px: int
    fusion_sr_px: int
    halo_lr_rows: int
    border_strip_lr_px: int = 0
    border_kept_lr_px: int = 0


@dataclass(frozen=True)
class ModelCard:
    """Everything `bundle.json` says.

    Attributes:
        facts: what the trainer knows.
        scale: SR pixels per LR pixel.
        parameters: trained values as run, tails collapsed.
        config: the network's configuration.
        receptive_field: how far the graphs look.
        graphs: role -> file. Either `trunk` (lr -> features) and `tail` (features, lr ->
            predictions, weights, sr), or, where the frame differs, `trunk`, `tail` and
            `tail_frame` (features, lr -> predictions) and `fusion` (predictions -> weights, sr).
            Predictions are (1, 3 p, S h, S w), RGB by RGB.
            `_int8` after each: the same quantised, where the model has them.
        files: file -> SHA-256, the card and its readme aside.
        precisions: precision -> how far it is from float32; empty on older cards.
    """

    facts: ModelMetadata
    scale: int
    parameters: int
    config: ModelConfig
    receptive_field: ReceptiveField
    graphs: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    precisions: Mapping[str, PrecisionError] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return what people call the model."""
        return self.facts.name


@dataclass(frozen=True)
class Bundle:
    """A card and the folder it lies in."""

    folder: Path
    card: ModelCard

    @property
    def weights_sha256(self) -> str:
        """Return the hash that tells these weights from all others."""
        return self.card.files[WEIGHTS_NAME]

    def graph(self, role: str) -> Path:
        """Return the file of a graph; KeyError where the model has no such graph."""
        return self.folder / self.card.graphs[role]


def read_bundle(folder: Path) -> Bundle:
    """Return the bundle in a folder, its card checked and its files there; hashes are not.

    Raises:
        BundleError: no card, one of another version or schema, or files missing.
    """
    path = folder / CARD_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(path, f"can't be read: {error.strerror}", remedy=_REMEDY) from error
    except ValueError as error:
        raise BundleError(path, f"is not JSON: {error}", remedy=_REMEDY) from error
    card = _card(path, values)
    if missing := [name for name in card.files if not (folder / name).is_file()]:
        raise BundleError(folder, f"lacks {', '.join(sorted(missing))}", remedy=_REMEDY)
    return Bundle(folder, card)


def write_card(folder: Path, card: ModelCard) -> None:
    """Write `bundle.json` atomically, its fields flat but for figures, config and reach."""
    facts = asdict(card.facts)
    rest = {
        "scale": card.scale,
        "parameters": card.parameters,
        "config": card.config.to_dict(),
        "receptive_field": asdict(card.receptive_field),
        "graphs": dict(card.graphs),
        "files": dict(card.files),
        "precisions": {name: asdict(loss) for name, loss in card.precisions.items()},
    }
    text = json.dumps({"format_version": FORMAT_VERSION, **facts, **rest}, indent=1)
    write_atomically(folder / CARD_NAME, f"{text}\n".encode())


def verify_bundle(bundle: Bundle) -> None:
    """Check every file of a bundle against the hash on its card.

    Raises:
        BundleError: a file is damaged; all of them are named.
    """
    hashes = bundle.card.files.items()
    damaged = [name for name, sha256 in hashes if sha256_file(bundle.folder / name) != sha256]
    if damaged:
        problem = f"doesn't match the hash of {', '.join(sorted(damaged))}"
        raise BundleError(bundle.folder, problem, remedy=_REMEDY)


_REMEDY = "Copy the bundle again, or write it anew with `d2csr export`."


def _card(path: Path, values: Any) -> ModelCard:
    """Return the card that JSON values are; the version is looked at first."""
    version = values.get("format_version") if isinstance(values, dict) else None
    if version == 1:
        values = _upgraded_from_1(values)
    elif version != FORMAT_VERSION:
        problem = (
            f"has format version {version!r}; this release reads versions 1 and {FORMAT_VERSION}"
        )
        raise BundleError(path, problem, remedy="Use the d2csr release that wrote it.")
    names = [each.name for each in fields(ModelMetadata)]
    try:
        facts: dict[str, Any] = {name: values[name] for name in names}
        facts["scores"] = tuple(_score(row) for row in values["scores"])
        card = ModelCard(
            facts=ModelMetadata(**facts),
            scale=values["scale"],
            parameters=values["parameters"],
            config=ModelConfig.from_dict(values["config"]),
            receptive_field=ReceptiveField(**values["receptive_field"]),
            graphs=values["graphs"],
            files=values["files"],
            precisions={
                name: PrecisionError(**loss) for name, loss in values.get("precisions", {}).items()
            },
        )
        _check(card)
    except (KeyError, TypeError, ValueError, AttributeError, D2csrError) as error:
        problem = f"doesn't follow the schema ({error!r})"
        raise BundleError(path, problem, remedy=_REMEDY) from error
    return card


def _upgraded_from_1(values: dict[str, Any]) -> dict[str, Any]:
    """Return a card of version 1 in the keys of version 2; what it lacks, the reader reports."""
    renamed = {"figures": "scores", "reach": "receptive_field"}
    upgraded = {renamed.get(key, key): value for key, value in values.items()}
    field_of_1 = upgraded.get("receptive_field", {})
    upgraded["receptive_field"] = {
        key.replace("frame_", "border_"): value for key, value in field_of_1.items()
    }
    upgraded["precisions"] = {
        name: {key.replace("pictures", "images"): value for key, value in row.items()}
        for name, row in values.get("precisions", {}).items()
    }
    return upgraded


def _score(values: dict[str, Any]) -> EvaluationScore:
    intervals = {name: tuple(values[name]) for name in values if name.endswith("interval95")}
    return EvaluationScore(**{**values, **intervals})


def _check(card: ModelCard) -> None:
    """Refuse what would only show later, deep inside; ValueError says what."""
    if card.scale != card.config.scale:
        raise ValueError(f"scale {card.scale}, but config.scale {card.config.scale}")
    if {"trunk", "tail"} - set(card.graphs):
        raise ValueError(f"graphs {sorted(card.graphs)} lack trunk or tail")
    if unknown := {WEIGHTS_NAME, *card.graphs.values()} - set(card.files):
        raise ValueError(f"no hash of {sorted(unknown)}")
    if strays := [name for name in card.files if Path(name).name != name]:
        raise ValueError(f"files outside the folder: {strays}")
