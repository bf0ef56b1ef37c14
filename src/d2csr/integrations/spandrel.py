"""The architecture for spandrel, by which ComfyUI and chaiNNer load weights in PyTorch.

spandrel sees names and shapes alone, not the metadata of a file. So a file for it has, besides the
weights, one tensor per choice that no shape shows; its name is the choice: `d2csr.base.bicubic`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import final

import torch
from safetensors.torch import save
from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor, ModelTiling  # pyright: ignore[reportMissingImports]
from torch import Tensor

from d2csr.checkpoint.io import config_from_shapes, options_json
from d2csr.core.config import ModelConfig
from d2csr.core.files import atomic_path
from d2csr.models.d2csr import D2CSR

ARCHITECTURE_ID = "D2CSR"
_COMFYUI_NODE = '''"""D2C-SR networks for ComfyUI's `Load Upscale Model`, by d2csr[spandrel]."""

from d2csr.integrations.spandrel import install

install()
NODE_CLASS_MAPPINGS = {}  # no nodes of its own
'''
_CHOICE = "d2csr."  # begins the names of tensors that hold no weights


def install() -> None:
    """Register the architecture, so that every `spandrel.ModelLoader` of this process finds it.

    Calling it again changes nothing.
    """
    MAIN_REGISTRY.add(ArchSupport.from_architecture(D2CSRArchitecture()), ignore_duplicates=True)


def save_for_spandrel(network: D2CSR, path: Path) -> None:
    """Write a network as one safetensors file from whose names and shapes every size is read."""
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    for name, value in json.loads(options_json(network.config)).items():
        text = value if isinstance(value, str) else json.dumps(value)
        tensors[f"{_CHOICE}{name}.{text}"] = torch.zeros(1)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"format": "pt"}))


def write_comfyui_node(folder: Path) -> None:
    """Write a folder for ComfyUI's `custom_nodes`, which calls `install` when ComfyUI starts."""
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(_COMFYUI_NODE, encoding="utf-8")


@final
class D2CSRArchitecture(Architecture[D2CSR]):
    """D2C-SR networks of every size, as `save_for_spandrel` writes them."""

    def __init__(self) -> None:
        """Recognize a file by the names that `save_for_spandrel` adds."""
        super().__init__(id=ARCHITECTURE_ID, name="D2C-SR", detect=_is_ours)

    def load(self, state_dict: Mapping[str, object]) -> ImageModelDescriptor[D2CSR]:
        """Return the network, which takes and returns RGB of shape (1, 3, h, w), range 0 to 1.

        Raises:
            CheckpointError: the tensors are not those of a D2C-SR network.
        """
        weights = {
            name: value
            for name, value in state_dict.items()
            if isinstance(value, Tensor) and not name.startswith(_CHOICE)
        }
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        options = json.dumps(_choices(state_dict))
        config = config_from_shapes(shapes, options, where="spandrel's state dict")
        return ImageModelDescriptor(
            D2CSR(config).eval(),
            weights,
            architecture=self,
            purpose="SR",
            tags=_tags(config),
            supports_half=True,
            supports_bfloat16=False,  # the network returns float32 then
            scale=config.scale,
            input_channels=3,
            output_channels=3,
            tiling=ModelTiling.DISCOURAGED if config.attention else ModelTiling.SUPPORTED,
            call_fn=lambda model, image: model(image).sr,
        )


def _is_ours(state_dict: Mapping[str, object]) -> bool:
    is_marked = any(name.startswith(_CHOICE) for name in state_dict)
    return is_marked and "divergence.head.weight" in state_dict


def _choices(state_dict: Mapping[str, object]) -> dict[str, object]:
    """Return the choices that the names of a file state."""
    found: dict[str, object] = {}
    for name in state_dict:
        if name.startswith(_CHOICE):
            option, _, text = name.removeprefix(_CHOICE).partition(".")
            is_json = text in ("true", "false", "null") or text.isdecimal()
            found[option] = json.loads(text) if is_json else text
    return found


def _tags(config: ModelConfig) -> list[str]:
    return [f"{config.channels}nf", f"{config.leaves} predictions"]
