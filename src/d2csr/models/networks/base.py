"""Base of the compared networks: one convention outside, that of the public code inside.

Outside, every network takes LR and returns SR as RGB in 0..1. Inside, `native` is the network as
its public code computes it: on LR or on the bicubic enlargement, on RGB or on luma, in 0..1 or
0..255. Networks on luma take the color of the bicubic enlargement, as their papers do.
Shapes: b images, h x w LR pixels, sh x sw SR pixels, c and d channels.
"""

import difflib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.config import SCALES
from d2csr.core.errors import D2csrError, UsageError
from d2csr.metrics.protocols import LUMA
from d2csr.models.layers import BicubicBase
from d2csr.models.networks.public_weights import (
    LayerNames,
    PublicWeights,
    complete_sizes,
    load_public,
)

Takes = Literal["lr", "enlarged"]
Colors = Literal["rgb", "y"]
Sizes = dict[str, Any]  # keyword arguments of a network's constructor, as JSON values

_LUMA_OFFSET = 16 / 255  # of Y in 0..1, Rec. ITU-R BT.601-7
_LUMA_GAIN = 219 / 255  # Y of white less Y of black
_BICUBIC_PX = 2  # LR pixels that the bicubic enlargement depends on to each side


@dataclass(frozen=True)
class Strided:
    """A convolution with a stride, or a transposed one, as a stage of a receptive field."""

    kernel: int
    stride: int
    padding: int
    transposed: bool = False

    def inputs(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and last input pixel that the output pixels depend on."""
        if self.transposed:
            first, last = first + self.padding, last + self.padding
            return -((self.kernel - 1 - first) // self.stride), last // self.stride
        first, last = (self.stride * each - self.padding for each in (first, last))
        return first, last + self.kernel - 1


@dataclass(frozen=True)
class BicubicEnlargement:
    """The bicubic enlargement, as a stage of a receptive field."""

    scale: int

    def inputs(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and last of the four pixels around each position, or the one on it."""
        ends = [divmod(2 * pixel + 1 - self.scale, 2 * self.scale) for pixel in (first, last)]
        (before, past), (before_last, past_last) = ends
        return before - (past != 0), before_last + 2 * (past_last != 0)


# Other layers: pixels seen to each side on this grid, and the enlargement that follows.
Stage = tuple[int, int] | Strided | BicubicEnlargement


class SystemNetwork(nn.Module):
    """A network of another paper, by its public code.

    Attributes:
        takes: the input of `native`: LR, or its bicubic enlargement.
        scales: the scales that the network can be built for.
        unreadable: constructor arguments that weights don't determine, each with a hint for users.
        colors: the channels of `native`: RGB, or luma alone.
        value_range: white in `native`: 1 or 255.
        side_multiple: the sides of `native`'s input must be multiples of it; `forward` pads.
        adds_bicubic: whether `forward` adds the bicubic enlargement to the output of `native`.
        scale: SR pixels per LR pixel.
        sizes: the other constructor arguments, as JSON values.
    """

    takes: ClassVar[Takes] = "lr"
    scales: ClassVar[tuple[int, ...]] = SCALES
    unreadable: ClassVar[Mapping[str, str]] = {}
    colors: Colors = "rgb"
    value_range: int = 1
    side_multiple: int = 1
    adds_bicubic: bool = False

    def __init__(self, scale: int, sizes: Sizes) -> None:
        """Store scale and sizes, checked."""
        super().__init__()
        check_sizes(type(self), {"scale": scale, **sizes}, where=type(self).__name__)
        self.scale = scale
        self.sizes: Sizes = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in sizes.items()
        }
        self.enlarge = BicubicBase(scale)

    def native(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d sh sw"]:
        """Return the output in the public code's convention, given an input in it."""
        raise NotImplementedError

    def native_outputs(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, ...]:
        """Return all outputs that the loss takes, in `native`'s convention; the last is the SR."""
        return (self.native(x),)

    def stages(self) -> list[Stage] | None:
        """Return the layers of `native` on its longest path, input to output; None: all pixels.

        Each is the pixels seen to each side and the enlargement that follows, or `Strided`.
        """
        raise NotImplementedError

    @property
    def receptive_field(self) -> int | None:
        """LR pixels that an SR pixel depends on to each side, beyond its own; None: all."""
        stages = self.stages()
        if stages is None:
            return None
        if self.takes == "enlarged":
            stages = [BicubicEnlargement(self.scale), *stages]
        reach = _BICUBIC_PX if self.colors == "y" or self.adds_bicubic else 0
        for pixel in range(self.scale * self.side_multiple):  # one of each phase
            first, last = _inputs(stages, pixel)
            own = pixel // self.scale
            reach = max(reach, own - first, last - own)
        return reach

    def native_input(self, lr01: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c ph pw"]:
        """Return the input of `native` for LR, padded on the right and below by its last pixels."""
        image = self.enlarge(lr01) if self.takes == "enlarged" else lr01
        image = luma(image) if self.colors == "y" else image
        return pad_sides(image, self.side_multiple) * self.value_range

    def forward(self, lr01: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of an RGB image in 0..1, in the same range but not clamped."""
        height, width = (side * self.scale for side in lr01.shape[2:])
        sr = self.native(self.native_input(lr01))[..., :height, :width] / self.value_range
        if self.adds_bicubic:
            return self.enlarge(lr01) + sr
        if self.colors == "rgb":
            return sr
        bicubic = self.enlarge(lr01)
        return bicubic + (sr - luma(bicubic)) / _LUMA_GAIN

    def training_outputs(self, lr01: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Return the outputs that the loss compares with `training_target`: `colors`, in 0..1.

        The last is the SR; those before it are the other supervised outputs, if any.
        """
        x = self.native_input(lr01)
        height, width = (self._input_px(side) for side in lr01.shape[2:])
        outputs = []
        for output in self.native_outputs(x):
            factor = output.shape[-1] // x.shape[-1]
            outputs.append(output[..., : factor * height, : factor * width] / self.value_range)
        if self.adds_bicubic:
            outputs[-1] = outputs[-1] + self.enlarge(lr01)
        return tuple(outputs)

    def training_target(
        self, hr01: Float[Tensor, "b 3 sh sw"]
    ) -> Float[Tensor, "b c _ _"] | tuple[Tensor, ...]:
        """Return HR in the channels of `colors`: RGB, or luma in 16/255..235/255."""
        return luma(hr01) if self.colors == "y" else hr01

    def _input_px(self, side: int) -> int:
        """Return the side of `native`'s input, unpadded, for a side of LR."""
        return side * self.scale if self.takes == "enlarged" else side

    def for_inference(self) -> "SystemNetwork":
        """Return the network as it should run and be exported: itself, unless training differs."""
        return self

    @classmethod
    def adapt_public(cls, weights: PublicWeights) -> PublicWeights:
        """Return public weights whose tensors have the layout of ours."""
        return weights

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the constructor arguments, scale included, that the public code's weights show."""
        raise NotImplementedError

    def public_layers(self) -> LayerNames:
        """Return the public code's layer for each of ours: patterns of our names to theirs."""
        raise NotImplementedError

    @classmethod
    def from_public(
        cls, state: Mapping[str, Tensor], *, where: object = "weights", **options: Any
    ) -> "SystemNetwork":
        """Return the network with the weights of its public code, ready to predict.

        Args:
            state: the public code's names and tensors, unwrapped (`unwrap_state`).
            where: the file they come from, for messages.
            options: constructor arguments that the weights don't determine.

        Raises:
            CheckpointError: the weights are those of another network, or damaged.
            UsageError: an option is unknown, missing, or contradicts the weights.
        """
        check_sizes(cls, options, where=where)
        weights = cls.adapt_public(PublicWeights(state, where=where))
        arguments = complete_sizes(
            cls.infer_sizes(weights),
            options,
            names=argument_names(cls),
            hints=cls.unreadable,
            where=where,
        )
        layers = cls._check_public(weights, arguments)
        return load_public(cls(**arguments), weights, layers=layers).eval()

    @classmethod
    def fits_public(cls, state: Mapping[str, Tensor]) -> bool:
        """Return whether a public state dict has the names and shapes of such a network."""
        try:
            weights = cls.adapt_public(PublicWeights(state, where="weights"))
            inferred = cls.infer_sizes(weights)
            scale = inferred.get("scale", cls.scales[-1])  # where shapes don't depend on it
            cls._check_public(weights, {**inferred, "scale": scale})
        except (D2csrError, LookupError, ValueError, RuntimeError):
            return False
        return True

    @classmethod
    def _check_public(cls, weights: PublicWeights, arguments: Sizes) -> LayerNames:
        """Return the names of public layers, after comparing all tensors with a network's."""
        check_sizes(cls, arguments, where=weights.where)
        with torch.device("meta"):  # shapes alone: nothing is allocated before they are compared
            expected = cls(**arguments)
        layers = expected.public_layers()
        weights.check_against(expected, layers)
        return layers


def _inputs(stages: Sequence[Stage], pixel: int) -> tuple[int, int]:
    """Return the first and last LR pixel that an SR pixel depends on, along one axis."""
    first = last = pixel
    for stage in reversed(stages):
        if isinstance(stage, tuple):
            reach, factor = stage
            first, last = first // factor - reach, last // factor + reach
        else:
            first, last = stage.inputs(first, last)
    return first, last


def luma(rgb01: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Return Y of Rec. ITU-R BT.601, in 16/255..235/255 for colors in 0..1."""
    weights = rgb01.new_tensor(LUMA[0]).view(3, 1, 1)
    return (rgb01 * weights).sum(dim=1, keepdim=True) + _LUMA_OFFSET


def pad_sides(image: Float[Tensor, "b c h w"], multiple: int) -> Float[Tensor, "b c ph pw"]:
    """Return the image with its last pixels repeated until both sides are multiples of a number."""
    right, below = (-image.shape[axis] % multiple for axis in (3, 2))
    if not right and not below:
        return image
    return F.pad(image, (0, right, 0, below), mode="replicate")


def argument_names(network: type[SystemNetwork]) -> tuple[str, ...]:
    """Return the names of a network's constructor arguments, `scale` first."""
    return tuple(inspect.signature(network).parameters)


def check_sizes(network: type[SystemNetwork], sizes: Mapping[str, Any], *, where: object) -> None:
    """Check names and values of constructor arguments; each is compared with its default's kind.

    Raises:
        UsageError: an argument doesn't exist, has a value of another kind, or the scale isn't one
            of the network's.
    """
    parameters = inspect.signature(network).parameters
    for name, value in sizes.items():
        if name not in parameters:
            raise unknown_name(name, tuple(parameters), kind="option", where=where)
        if name == "scale":
            choices = network.scales
            problem = None if value in choices else f"scale {value!r} is none of its scales"
            remedy = f"Choose among {', '.join(map(str, choices))}."
        else:
            problem, remedy = _size_problem(name, value, parameter=parameters[name])
        if problem is not None:
            raise UsageError(where, problem, remedy=remedy)


def _size_problem(name: str, value: Any, *, parameter: inspect.Parameter) -> tuple[str | None, str]:
    """Return the problem of a size, None if it has none, and the remedy."""
    default, problem = parameter.default, f"{name}={value!r} is not possible"
    if get_origin(parameter.annotation) is Literal:
        choices = get_args(parameter.annotation)
        is_right = value in choices and type(value) is type(default)
        return None if is_right else problem, f"Choose among {', '.join(map(str, choices))}."
    if isinstance(default, tuple):
        is_right = isinstance(value, list | tuple) and len(default) in (0, len(value))
        like = default[0] if default else 0.0
        is_right = is_right and all(_is_number(each, like=like) for each in value)
        return None if is_right else problem, f"Give a list of numbers like {list(default)}."
    is_right = _is_number(value, like=default)
    return None if is_right else problem, f"Give a value like {default!r}."


def _is_number(value: Any, *, like: Any) -> bool:
    """Return whether a value is of the kind of a default: a choice, a count from 1, a number."""
    if isinstance(like, bool) or isinstance(value, bool):
        return isinstance(like, bool) and isinstance(value, bool)
    if isinstance(like, int):
        return isinstance(value, int) and value >= 1
    return isinstance(value, int | float) and math.isfinite(value)


def unknown_name(name: str, known: tuple[str, ...], *, kind: str, where: object) -> D2csrError:
    """Return the error about a name that doesn't exist, with the nearest one and the list."""
    (nearest, *_) = difflib.get_close_matches(name, known, n=1, cutoff=0.0) or (known[0],)
    problem = f"there is no {kind} {name!r}; the nearest is {nearest}"
    return UsageError(where, problem, remedy=f"Choose among {', '.join(known)}.")
