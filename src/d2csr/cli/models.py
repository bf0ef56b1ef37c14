"""Commands `models`, `export` and `convert`: bundles listed, and made from weights."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from d2csr.core.console import print_line
from d2csr.core.errors import UsageError

if TYPE_CHECKING:
    from d2csr.core.bundle import Bundle, ErrorModelFacts, EvaluationScore, ModelCard, ModelMetadata
    from d2csr.core.error_model import ErrorModel

Program = Literal["onnx", "ncnn", "darktable", "spandrel", "huggingface", "openmodeldb"]
Output = Annotated[Path, Parameter(name=("--output", "-o"))]


def models() -> int:
    """List the models that ship with the package: scale, size, licence, scores."""
    from d2csr.engine.model import shipped_bundles

    bundles = shipped_bundles()
    if not bundles:
        print_line("no models ship with this installation")
    for bundle in bundles:
        print_line(*_describe(bundle.card))
    return 0


@dataclass(frozen=True)
class CardOptions:
    """Entries of the model card that replace those of the run.

    Attributes:
        name: Name of the model.
        licence: Licence of the weights.
        data: The training data, in words.
        description: The model's purpose.
    """

    name: Annotated[str | None, Parameter(name=("--name", "-n"))] = None
    licence: str | None = None
    data: str | None = None
    description: str | None = None

    def given(self) -> dict[str, str]:
        """Return the entries that are given."""
        return {key: value for key, value in vars(self).items() if value}


DEFAULT_CARD = CardOptions()


def export(  # noqa: PLR0913 - one parameter per option
    source: Path,
    /,
    *,
    output: Output,
    card: Annotated[CardOptions, Parameter(name="*")] = DEFAULT_CARD,
    verify_on: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative=())] = (),
    int8: Path | None = None,
    allow_outside: bool = False,
    to: Program | None = None,
) -> int:
    """Make a bundle, which `d2csr upscale -n` takes, from a run, a checkpoint or another bundle.

    If the graphs differ from the network by more than 1e-5, nothing is written. Exporting a bundle
    onto itself writes its graphs again and keeps the entries of its card.

    With `--to`, a bundle becomes files for another program instead. Each file is run by the library
    that reads it; if it differs from the engine by more than 1e-4 (2e-3 in fp16), none is written.

    Args:
        source: A run (its bundle, else its best checkpoint, else its newest one), a checkpoint, a
            bundle, or a file of weights. With `--to`, a shipped model, a bundle or a run with one.
        output: Folder for the bundle; a bundle in it is replaced. With `--to`, files are added.
        verify_on: LR images to compare on; by default noise.
        int8: Pairs, a manifest or a folder: adds graphs in int8, calibrated on the train split. If
            they lose more than 0.05 dB on the val split, nothing is written. Needs the extra
            `quantize`.
        allow_outside: Allow manifests whose pairs lie outside their folder.
        to: Write files for other programs: `onnx` for chaiNNer and ONNX Runtime, `ncnn` for
            Upscayl and chaiNNer, `darktable` for darktable, `spandrel` for ComfyUI and programs
            with spandrel, `huggingface` for `from_pretrained`, `openmodeldb` for an entry there.
    """
    if to is not None:
        if int8 is not None or card.given():
            remedy = "Remove it, or export a bundle first."
            raise UsageError("--to", "doesn't take --int8 or entries of the card", remedy)
        return _export_for(to, source, output=output, verify_on=verify_on)
    return _export_bundle(
        source, output, card=card, verify_on=verify_on, int8=int8, allow_outside=allow_outside
    )


def _export_bundle(
    source: Path,
    output: Path,
    *,
    card: CardOptions,
    verify_on: Sequence[Path],
    int8: Path | None,
    allow_outside: bool,
) -> int:
    """Write a bundle and print the error of every precision."""
    from d2csr.checkpoint.io import find_weights  # torch takes seconds to load
    from d2csr.checkpoint.systems import load_network_file
    from d2csr.data.sources import open_pairs
    from d2csr.export.bundle_writer import export_bundle
    from d2csr.export.system_bundle import write_system_bundle
    from d2csr.images.reader import read_rgb8
    from d2csr.models.d2csr import D2CSR

    weights = find_weights(source)
    network = load_network_file(weights)
    error_model = _read_error_model(weights)  # the folder may be replaced
    metadata = replace(_read_metadata(weights, source), **card.given())
    images = [read_rgb8(path) for path in verify_on]
    if isinstance(network, D2CSR):
        pairs = None
        if int8 is not None:
            scale = network.config.scale
            pairs = open_pairs(int8, scale=scale, allow_outside=allow_outside)
        bundle = export_bundle(network, output, metadata=metadata, verify_on=images, int8_by=pairs)
    elif int8 is not None:
        problem = "is for D2C-SR: other networks have no graphs in int8"
        raise UsageError("--int8", problem, "Remove it.")
    else:
        bundle = write_system_bundle(network, output, metadata=metadata, verify_on=images)
    print_line(*_describe_export(_with_error_model(bundle, error_model).card, output))
    return 0


def _export_for(to: Program, source: Path, *, output: Path, verify_on: Sequence[Path]) -> int:
    """Write a bundle for another program and print its files with their differences."""
    from d2csr.core.bundle import read_bundle
    from d2csr.engine.model import find_bundle
    from d2csr.export.other_programs import LIMITS, context_px, export_for
    from d2csr.images.reader import read_rgb8

    bundle = read_bundle(find_bundle(source))
    images = [read_rgb8(path) for path in verify_on]
    for file in export_for(to, bundle, folder=output, images=images):
        difference = f"largest difference to the engine {file.difference:.1e}"
        limit = f"limit {LIMITS[file.precision]:.0e}"
        print_line(f"{output / file.name}: {file.precision}, {difference} ({limit})")
    context = context_px(bundle.card)
    seen = "the whole image" if context is None else f"{context} LR pixels to each side"
    print_line(
        f"A pixel of SR depends on {seen}: programs that cut tiles should overlap them as far."
    )
    return 0


def official(
    checkpoint: Path,
    /,
    *,
    output: Output,
    scale: Annotated[int | None, Parameter(name=("--scale", "-s"))] = None,
) -> int:
    """Convert a checkpoint of the paper's authors into a model folder.

    The pickle is read as data; nothing in it is run.

    Args:
        checkpoint: The `checkpoint.pkl` that their trainer saved.
        output: Folder for the model; `d2csr upscale -n` takes it.
        scale: The expected scale; any other is an error.
    """
    from d2csr.checkpoint.official import load_official  # `d2csr --help` needs no torch
    from d2csr.core.bundle import ModelMetadata
    from d2csr.export.bundle_writer import export_bundle

    network = load_official(checkpoint, scale=scale)
    metadata = ModelMetadata(
        name=output.resolve().name,
        licence="that of the checkpoint",
        data=f"unknown; converted from {checkpoint.name}",
        description="Weights trained with the code of the paper's authors.",
    )
    bundle = export_bundle(network, output, metadata=metadata)
    size = f"{network.parameter_count()} parameters"
    print_line(f"{output}: x{network.config.scale}, {size}, name {bundle.card.name}")
    return 0


def system(
    name: str,
    checkpoint: Path,
    /,
    *,
    output: Output,
    options: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    card: Annotated[CardOptions, Parameter(name="*")] = DEFAULT_CARD,
) -> int:
    """Convert weights of another network's public code into a model folder.

    Sizes and scale are read from names and shapes. Nothing in the file is run: only tensors are
    read.

    Args:
        name: The system, such as edsr, rcan, rrdbnet (ESRGAN, Real-ESRGAN x4plus), srvgg
            (Real-ESRGAN general-v3), span or safmn; docs/systems.md lists them.
        checkpoint: The .pth, .pt or .safetensors file.
        output: Folder for the model; `d2csr upscale -n` takes it.
        options: A size that the weights don't show, as NAME=VALUE, for example res_scale=0.1; may
            be given several times.
    """
    from d2csr.checkpoint.public import load_public_system  # `d2csr --help` needs no torch
    from d2csr.core.bundle import ModelMetadata
    from d2csr.core.bundle_readme import describe_config
    from d2csr.export.system_bundle import write_system_bundle
    from d2csr.models.systems import find_system

    network = load_public_system(checkpoint, name, options=parse_settings(options))
    spec = find_system(name)
    metadata = ModelMetadata(
        name=output.resolve().name,
        licence="that of the checkpoint",
        data=f"unknown; converted from {checkpoint.name}",
        description=f"{spec.title} ({spec.paper}), weights of its public code.",
    )
    bundle = write_system_bundle(network, output, metadata=replace(metadata, **card.given()))
    size = f"x{bundle.card.scale}, {bundle.card.parameters:,} parameters at inference"
    print_line(f"{output}: {bundle.card.name}, {size}", describe_config(bundle.card.config))
    return 0


def parse_settings(texts: Sequence[str]) -> dict[str, object]:
    """Return the values of `NAME=VALUE`, each as JSON where it is some, else as text.

    Raises:
        UsageError: a text has no name or no value, or a name is given twice.
    """
    values: dict[str, object] = {}
    for text in texts:
        name, mark, value = text.partition("=")
        if not (name.strip() and mark and value.strip()):
            raise UsageError("--set", f"{text!r} is not NAME=VALUE", "Write it as res_scale=0.1.")
        if name.strip() in values:
            raise UsageError("--set", f"{name.strip()} is given twice", "Give it once.")
        try:
            values[name.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            values[name.strip()] = value.strip()
    return values


def _read_metadata(weights: Path, source: Path) -> "ModelMetadata":
    """Return the metadata beside the weights: of a bundle's card, or of a run's recipe."""
    from d2csr.checkpoint.io import STATE_FILE, read_state, trained_steps
    from d2csr.core.bundle import CARD_NAME, ModelMetadata, read_bundle
    from d2csr.training.monitor import LOG_NAME, read_runs
    from d2csr.training.recipe import RECIPE_NAME, read_recipe

    folder = weights.resolve().parent
    if (folder / CARD_NAME).is_file():
        return read_bundle(folder).card.metadata
    steps, machine = None, None
    if (folder / STATE_FILE).is_file():
        steps, machine = trained_steps(folder), read_state(folder).get("machine")
    for run in folder.parents[:2]:  # of run/best and run/checkpoints/step-1
        if (run / RECIPE_NAME).is_file():
            runs = read_runs(run) if (run / LOG_NAME).is_file() else ()
            recipe = read_recipe(run / RECIPE_NAME)
            return recipe.describe_model(steps=steps, machine=machine, runs=runs)
    name = source.resolve().stem
    return ModelMetadata(name, licence="unstated", data="unstated", steps=steps, machine=machine)


def _read_error_model(weights: Path) -> "tuple[ErrorModel, ErrorModelFacts] | None":
    """Return the error model of the bundle that the weights lie in; None if there is none."""
    from d2csr.core.bundle import CARD_NAME, read_bundle
    from d2csr.core.error_model import find_error_model

    folder = weights.resolve().parent
    if not (folder / CARD_NAME).is_file():
        return None
    bundle = read_bundle(folder)
    model, facts = find_error_model(bundle), bundle.card.uncertainty
    return None if model is None or facts is None else (model, facts)


def _with_error_model(
    exported: "Bundle", error_model: "tuple[ErrorModel, ErrorModelFacts] | None"
) -> "Bundle":
    """Return a bundle with the error model of the one that its weights were taken from."""
    from d2csr.core.error_model import write_calibrated_bundle

    if error_model is None:
        return exported
    model, facts = error_model
    return write_calibrated_bundle(exported, exported.folder, model=model, facts=facts)


def _describe_export(card: "ModelCard", output: Path) -> Iterator[str]:
    """Yield the lines printed after an export: size, and the error of every precision."""
    from d2csr.engine.backends.base import meets_accuracy_target
    from d2csr.export.verification import LIMIT

    yield f"{output}: {card.name}, x{card.scale}, {card.parameters:,} parameters at inference"
    yield f"fp32: verified, within {LIMIT:.0e} of the network's largest value"
    for precision, error in card.precisions.items():
        line = f"{precision}: {error.psnr_to_fp32_db:.1f} dB from fp32"
        if error.psnr_loss_db is not None:
            line += f", {error.psnr_loss_db:.3f} dB of PSNR lost on the val split"
        met = meets_accuracy_target(card, precision)
        yield f"{line}; accuracy target of 0.01 dB {'met' if met else 'missed: not for `auto`'}"


def _describe(card: "ModelCard") -> Iterator[str]:
    """Yield the lines that list a model."""
    from d2csr.core.bundle_readme import describe_error_model

    metadata = card.metadata
    size = f"{card.parameters / 1e6:.2f}M parameters"
    yield f"{card.name}  x{card.scale}  {size}  licence {metadata.licence}"
    if metadata.description:
        yield f"  {metadata.description}"
    yield f"  trained on {metadata.data}"
    yield from (f"  {_describe_score(score)}" for score in metadata.scores)
    if card.uncertainty is not None:
        yield f"  error prediction: {describe_error_model(card.uncertainty)}"


def _describe_score(score: "EvaluationScore") -> str:
    low, high = score.psnr_db_interval95
    psnr = f"{score.data}, protocol {score.protocol}: {score.psnr_db:.2f} dB"
    line = f"{psnr} ({low:.2f} - {high:.2f}), SSIM {score.ssim:.4f}, {score.images} images"
    if score.bicubic_psnr_db is None:
        return line
    return f"{line}; bicubic {score.bicubic_psnr_db:.2f} dB"
