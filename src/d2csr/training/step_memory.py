"""The memory that a training step of a compared system needs, found without computing the step.

The forward pass runs on torch's `meta` device, whose tensors have shapes and no values.
"""

import torch
from torch import Tensor

from d2csr.core.errors import RecipeError
from d2csr.core.hardware import format_bytes, free_bytes
from d2csr.models.networks.srflow import SRFlow
from d2csr.models.systems import SystemModel
from d2csr.training.distributed import get_device
from d2csr.training.model_config import StageKind
from d2csr.training.networks import build_network
from d2csr.training.recipe import Recipe

_COPIES = 4  # of the weights: themselves, their gradients, and Adam's two moments


def check_step_memory(recipe: Recipe) -> None:
    """Check that a step of each stage fits the free memory; of D2C-SR, nothing is checked.

    Raises:
        RecipeError: it needs more; both amounts are named.
    """
    if not isinstance(recipe.model, SystemModel):
        return
    device = get_device(0)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_bytes()
    kinds: list[StageKind] = sorted({stage.kind for stage in recipe.stages})
    for kind in kinds:
        need = step_bytes(recipe, kind)
        if need > free:
            problem = f"a step of the {kind} stage needs at least {format_bytes(need)} of memory"
            problem += f", and {format_bytes(free)} are free"
            remedy = "Lower data.batch_size or data.patch_px."
            raise RecipeError("data", problem, remedy=remedy)


def step_bytes(recipe: Recipe, kind: StageKind) -> int:
    """Return the memory that a step of a stage needs at least, in bytes.

    That of the weights with gradients and moments, and that of all tensors that the forward pass
    keeps for the backward one; in bf16, these are half as large. Without the discriminator.
    """
    size, side = recipe.data.batch_size, recipe.data.patch_px
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.device("meta"):
        network = build_network(recipe.model).train()
        lr = torch.zeros(size, 3, side, side)
        hr = torch.zeros(size, 3, side * recipe.model.scale, side * recipe.model.scale)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            if not isinstance(network, SRFlow):
                outputs = network(lr)
            elif kind == "likelihood":
                outputs = network.encode(hr, network.training_outputs(lr))
            else:
                outputs = network.encoder_sr(lr)
    del outputs  # kept until here, as what is saved belongs to it
    weights = sum(value.nbytes for value in network.parameters())
    return _COPIES * weights + sum(kept.values()) // (2 if recipe.precision == "bf16" else 1)
