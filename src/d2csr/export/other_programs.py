"""Export for other programs: each file is run by the library that reads it, and compared.

What a program does with its file, and which tiles it cuts: docs/other-programs.md. The files hold
the network alone: the engine's colors of flat regions and gray images are not part of it.
"""

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from datetime import date
from importlib import import_module
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
import torch
from jaxtyping import Float32, UInt8
from onnx import helper
from torch import Tensor

from d2csr.checkpoint.io import load_weights
from d2csr.core.bundle import WEIGHTS_NAME, Bundle, ModelCard
from d2csr.core.errors import BundleError, UsageError
from d2csr.core.files import check_writable, sha256_file, write_atomically
from d2csr.core.system_config import SystemConfig
from d2csr.engine import open_engine
from d2csr.export.graphs import write_whole
from d2csr.export.ncnn import run_ncnn, write_ncnn
from d2csr.export.onnx_builder import to_half
from d2csr.export.verification import middle_crop, noise_image
from d2csr.images.pixels import to_uint8
from d2csr.images.writer import write_rgb8
from d2csr.models.d2csr import D2CSR

Target = Literal["onnx", "ncnn", "darktable", "spandrel", "huggingface", "openmodeldb"]
LIMITS = {"fp32": 1e-4, "fp16": 2e-3}  # of the difference of any value; 1 is white
_IN_TORCH = ("spandrel", "huggingface")  # which run the network itself, not a graph
_DARKTABLE_TILES_PX = {2: 512, 4: 256}  # scale -> side of a tile, as its own models have them

Image = Float32[np.ndarray, "_ _ 3"]


@dataclass(frozen=True)
class VerifiedFile:
    """A file for another program.

    Attributes:
        name: its path in the folder.
        precision: `fp32` or `fp16`.
        difference: largest difference of any value of SR to the engine's in float32, range 0 to 1.
    """

    name: str
    precision: str
    difference: float


@dataclass(frozen=True)
class _Job:
    """A model, the folder for its files, and images with the engine's SR of them.

    Attributes:
        card: of the model.
        network: collapsed; None for a compared system, which is its graph alone.
        graph: of a compared system.
        folder: for the files, empty.
        images: LR and SR.
        are_photographs: whether the images are worth showing: not noise.
    """

    card: ModelCard
    network: D2CSR | None
    graph: Path | None
    folder: Path
    images: Sequence[tuple[Image, Image]]
    are_photographs: bool

    @property
    def d2csr(self) -> D2CSR:
        """Return the network of a D2C-SR model."""
        if self.network is None:
            raise TypeError(f"{self.card.name} is no D2C-SR network")
        return self.network

    @property
    def name(self) -> str:
        """Return the model's name with its scale, as programs read it from the file's name."""
        name, mark = re.sub(r"[^\w.-]", "-", self.card.name), f"x{self.card.scale}"
        return name if re.search(rf"{mark}(?!\d)", name) else f"{name}-{mark}"

    def compare(
        self, name: str, run: Callable[[Image], Image], *, precision: str = "fp32"
    ) -> VerifiedFile:
        """Return a file with the largest difference of its SR on any image."""
        differences = [np.abs(run(lr) - sr).max() for lr, sr in self.images]
        return VerifiedFile(name, precision, float(np.max(differences)))


def export_for(
    target: Target, bundle: Bundle, *, folder: Path, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]
) -> list[VerifiedFile]:
    """Write a model for another program and return its files with their differences.

    Args:
        target: the program or format.
        bundle: of the model.
        folder: for the files; it may exist, the files may not.
        images: real LR images, of which the middle is compared; without any, an image of noise.

    Raises:
        UsageError: the program can't run this network correctly, or a file exists already.
        BundleError: a file's SR differs from the engine's by more than its precision may cost.
        ModuleNotFoundError: the library that runs the file isn't installed.
    """
    check_supported(target, bundle.card)
    check_writable(folder, folder=True)
    engine = open_engine(bundle, backend="openvino", precision="fp32")
    crops = [middle_crop(each) / np.float32(255) for each in images or [noise_image()]]
    graph, network = None, None
    if isinstance(bundle.card.config, SystemConfig):
        graph = bundle.graph("whole")
    else:
        network = load_weights(bundle.folder / WEIGHTS_NAME).collapse()
    with TemporaryDirectory() as temporary:
        samples = [(crop, engine.run(crop).sr) for crop in crops]
        job = _Job(bundle.card, network, graph, Path(temporary), samples, bool(images))
        verified = list(TARGETS[target](job))
        for file in verified:
            _check_difference(bundle.card, file)
        _move(job.folder, folder)
    return verified


def check_supported(target: Target, card: ModelCard) -> None:
    """Check that a program can compute what the network computes.

    Raises:
        UsageError: it can't.
    """
    config = card.config
    if isinstance(config, SystemConfig):
        if target != "onnx":
            problem = f"is a network of {config.system}, which is written for ONNX alone"
            remedy = "Use `--to onnx`. Programs with spandrel read the public weights themselves."
            raise UsageError(card.name, problem, remedy)
        return
    if config.tail_border == "each" and target not in _IN_TORCH:
        problem = f"its border has kernels of its own (tail_border: each), which {target} lacks"
        raise UsageError(card.name, problem, "Export it `--to spandrel` or `--to huggingface`.")
    if config.attention and target in ("ncnn", "darktable"):
        window = "the whole image" if config.pooling_px is None else f"{config.pooling_px} px"
        program = "Upscayl" if target == "ncnn" else "darktable"
        problem = f"its attention averages over {window}, but {program} cuts images into tiles"
        remedy = "Export it `--to onnx`, or export a model without attention: photo-x2, photo-x4."
        raise UsageError(card.name, problem, remedy)
    scales = {"darktable": tuple(_DARKTABLE_TILES_PX), "ncnn": (2, 3, 4)}.get(target)
    if scales is not None and card.scale not in scales:
        listed = " and ".join(f"x{scale}" for scale in scales)
        problem = f"enlarges x{card.scale}; {target} is for models of {listed}"
        raise UsageError(card.name, problem, "Choose a model of another scale, or `--to onnx`.")


def context_px(card: ModelCard) -> int | None:
    """Return the LR pixels on each side that an SR pixel depends on; None: the whole image."""
    field = card.receptive_field
    return None if field.trunk_lr_px is None else field.trunk_lr_px + field.halo_lr_rows


def _write_onnx(job: _Job) -> Iterator[VerifiedFile]:
    graph = _whole_graph(job)
    models = {"fp32": graph}
    if job.graph is None:  # of other networks, not all operations and values fit 16 bits
        models["fp16"] = to_half(graph)
    for precision, model in models.items():
        name = f"{job.name}.onnx" if precision == "fp32" else f"{job.name}-fp16.onnx"
        (job.folder / name).write_bytes(model.SerializeToString(deterministic=True))
        yield job.compare(name, _onnx_runner(job.folder / name), precision=precision)


def _write_ncnn(job: _Job) -> Iterator[VerifiedFile]:
    """Write a folder `models`, which is the name that Upscayl insists on."""
    path = job.folder / "models" / job.name
    path.parent.mkdir()
    write_ncnn(_whole_graph(job), path)

    def run(lr: Image) -> Image:
        planes = np.ascontiguousarray(lr.transpose(2, 0, 1))
        return run_ncnn(path, planes).transpose(1, 2, 0)

    yield job.compare(f"models/{job.name}.param", run)


def _write_darktable(job: _Job) -> Iterator[VerifiedFile]:
    """Write a zip file with one folder, whose name is the model's id."""
    model_id, scale = f"upscale-{job.name}".lower(), job.card.scale
    graph = f"model_x{scale}"
    description = job.card.metadata.description or f"Super-resolution x{scale}."
    config = {
        "id": model_id,
        "name": f"upscale {job.card.name}",
        "description": description,
        "task": "upscale",
        "backend": "onnx",
        "version": "1.0",
        "arch": "d2csr",
        "tiling": True,
        "num_inputs": 1,
        "attributes": {graph: {"input_sizes": [_DARKTABLE_TILES_PX[scale]]}},
        "model_card": {
            "license": job.card.metadata.licence,
            "training_data": job.card.metadata.data,
        },
    }
    name = f"{model_id}.dtmodel"
    with zipfile.ZipFile(job.folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{model_id}/config.json", json.dumps(config, indent=1) + "\n")
        data = _whole_graph(job).SerializeToString(deterministic=True)
        archive.writestr(f"{model_id}/{graph}.onnx", data)
    with TemporaryDirectory() as unpacked, zipfile.ZipFile(job.folder / name) as archive:
        path = Path(archive.extract(f"{model_id}/{graph}.onnx", unpacked))
        yield job.compare(name, _onnx_runner(path))


def _write_spandrel(job: _Job) -> Iterator[VerifiedFile]:
    """Write the weights, and a folder by which ComfyUI learns to load them."""
    spandrel: Any = import_module("spandrel")  # of an extra of its own
    ours: Any = import_module("d2csr.integrations.spandrel")
    name = f"{job.name}.safetensors"
    ours.save_for_spandrel(job.d2csr, job.folder / name)
    ours.write_comfyui_node(job.folder / "custom_nodes" / "d2csr")
    ours.install()
    descriptor = spandrel.ModelLoader().load_from_file(job.folder / name)
    clipped = [(lr, sr.clip(0, 1)) for lr, sr in job.images]
    yield replace(job, images=clipped).compare(name, _torch_runner(descriptor))


def _write_huggingface(job: _Job) -> Iterator[VerifiedFile]:
    """Write a folder with config, weights and model card."""
    ours: Any = import_module("d2csr.integrations.huggingface")
    with redirect_stdout(StringIO()):  # it prints that it loads from a folder
        ours.save_for_hub(job.d2csr, job.folder / job.name, card=job.card)
        model = ours.HubModel.from_pretrained(job.folder / job.name)
    yield job.compare(f"{job.name}/model.safetensors", _torch_runner(model))


def _write_openmodeldb(job: _Job) -> Iterator[VerifiedFile]:
    """Write the entry of the model, its files as ONNX, and an example of two images."""
    files = list(_write_onnx(job))
    yield from files
    card, scale = job.card, job.card.scale
    name = re.sub(rf"-?x{scale}$", "", job.name)
    entry = {
        "name": name,
        "author": "d2csr",
        "license": card.metadata.licence if card.metadata.licence != "unstated" else None,
        "tags": ["general-upscaler", "photo"],
        "description": card.metadata.description.strip() or f"Enlarges photographs x{scale}.",
        "date": date.today().isoformat(),
        "architecture": "d2csr",
        "size": [f"{card.d2csr_config.channels}nf", f"{card.config.leaves}p"],
        "scale": scale,
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": [_resource(job.folder / file.name) for file in files],
        "dataset": card.metadata.data,
        "images": [_example(job)] if job.are_photographs else [],
    }
    if card.metadata.steps:
        entry["trainingIterations"] = card.metadata.steps
    model_id = re.sub(r"[^a-zA-Z0-9]+", "-", f"{scale}x-{name}").strip("-")
    text = json.dumps(entry, indent=4) + "\n"
    (job.folder / f"{model_id}.json").write_text(text, encoding="utf-8")


def _resource(path: Path) -> dict[str, object]:
    """Return the facts about a file; the author replaces its name by an address."""
    return {
        "platform": "onnx",
        "type": "onnx",
        "size": path.stat().st_size,
        "sha256": sha256_file(path),
        "urls": [path.name],
    }


def _example(job: _Job) -> dict[str, str]:
    """Write the first image and its SR, and return their names."""
    names = {"LR": f"{job.name}-lr.png", "SR": f"{job.name}-sr.png"}
    for name, image in zip(names.values(), job.images[0], strict=True):
        write_rgb8(job.folder / name, to_uint8(image))
    return {"type": "paired", **names}


TARGETS: dict[Target, Callable[[_Job], Iterator[VerifiedFile]]] = {
    "onnx": _write_onnx,
    "ncnn": _write_ncnn,
    "darktable": _write_darktable,
    "spandrel": _write_spandrel,
    "huggingface": _write_huggingface,
    "openmodeldb": _write_openmodeldb,
}


def _whole_graph(job: _Job) -> onnx.ModelProto:
    """Return the network as one graph, with the facts of its card in the file's properties."""
    path = job.graph
    if path is None:
        path = job.folder / ".whole.onnx"
        write_whole(job.d2csr, path)
    model = onnx.load(path)
    if job.graph is None:
        path.unlink()
    metadata = job.card.metadata
    facts = {"name": job.card.name, "scale": str(job.card.scale), "licence": metadata.licence}
    facts |= {"data": metadata.data, "description": metadata.description}
    helper.set_model_props(model, facts)
    return model


def _onnx_runner(path: Path) -> Callable[[Image], Image]:
    """Return a function that runs a graph on ONNX Runtime."""
    onnxruntime: Any = import_module("onnxruntime")  # of an extra of its own
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (lr_end,), (sr_end,) = session.get_inputs(), session.get_outputs()

    def run(lr: Image) -> Image:
        planes = np.ascontiguousarray(lr.transpose(2, 0, 1)[None])
        (sr,) = session.run([sr_end.name], {lr_end.name: planes})
        return sr[0].transpose(1, 2, 0)

    return run


def _torch_runner(model: Callable[[Tensor], Tensor]) -> Callable[[Image], Image]:
    """Return a function that runs a network on torch."""

    def run(lr: Image) -> Image:
        planes = torch.from_numpy(np.ascontiguousarray(lr.transpose(2, 0, 1)[None]))
        with torch.inference_mode():
            return model(planes)[0].permute(1, 2, 0).numpy()

    return run


def _check_difference(card: ModelCard, file: VerifiedFile) -> None:
    limit = LIMITS[file.precision]
    if not file.difference <= limit:  # NaN is not
        problem = f"{file.name} differs from the engine by {file.difference:.1e}, over {limit:.0e}"
        raise BundleError(card.name, problem, remedy="Report this as an error of d2csr.")


def _move(temporary: Path, folder: Path) -> None:
    """Move all files into a folder that may have others, after checking that none exists."""
    names = [path.relative_to(temporary) for path in temporary.rglob("*") if path.is_file()]
    for name in sorted(names):
        if (folder / name).exists():
            remedy = "Remove it, or choose another folder."
            raise UsageError(folder / name, "exists already", remedy)
    for name in sorted(names):
        write_atomically(folder / name, (temporary / name).read_bytes())
