"""ESRGAN's losses: a relativistic discriminator, features of VGG19, and the L1 distance.

Source: ESRGAN (arXiv:1809.00219), sections 3.2 to 3.4, with the weights and halves of BasicSR.
Shapes: b images, h x w pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from d2csr.core.errors import CheckpointError, D2csrError, first_line
from d2csr.losses.reconstruction import LossTerm

Logits = Float[Tensor, "b 1"]

# Channels of VGG19's convolutions up to conv5_4; None: a pooling that halves the size.
_VGG19 = (64, 64, None, 128, 128, None, *[256] * 4, None, *[512] * 4, None, *[512] * 4)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class AdversarialConfig:
    """Weights of ESRGAN's loss, those of the paper; L1 is the distance of images in 0..1.

    Attributes:
        pixel: weight of the L1 distance of the images.
        perceptual: weight of the L1 distance of their VGG19 features.
        adversarial: weight of the relativistic loss.
        vgg_file: safetensors file with torchvision's VGG19; None leaves out the features.
        discriminator_features: width of the discriminator's first level.
    """

    pixel: float = 1e-2
    perceptual: float = 1.0
    adversarial: float = 5e-3
    vgg_file: str | None = None
    discriminator_features: int = 64

    def __post_init__(self) -> None:
        """Check that no weight is negative and not all are 0."""
        weights = (self.pixel, self.perceptual, self.adversarial)
        if min(weights) < 0 or not any(weights):
            problem = f"weights {weights} must be at least 0, and one above"
            raise D2csrError("adversarial", problem, remedy="Correct the settings of the loss.")
        if self.discriminator_features < 1:
            problem = f"discriminator_features is {self.discriminator_features}"
            raise D2csrError("adversarial", problem, remedy="Give 1 or more.")

    def omission(self) -> str | None:
        """Return a sentence about the term that the settings leave out, None if there is none."""
        if self.vgg_file is not None or not self.perceptual:
            return None
        return (
            "The perceptual term is left out: `vgg_file` names no weights of VGG19, so this isn't "
            "the loss of the paper."
        )


def generator_loss(real: Logits, fake: Logits) -> Float[Tensor, ""]:
    """Return the cross-entropy of SR looking more real than HR on average, and HR less than SR.

    `real` are the discriminator's logits for HR, which get no gradient; `fake` those for SR.
    """
    real = real.detach()
    return (_cross_entropy(real - fake.mean(), 0) + _cross_entropy(fake - real.mean(), 1)) / 2


def discriminator_losses(real: Logits, fake: Logits) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the halves for HR and for SR, whose sum the discriminator minimizes.

    Each logit is compared with the mean of the other kind, which gets no gradient.
    """
    return (
        _cross_entropy(real - fake.mean().detach(), 1) / 2,
        _cross_entropy(fake - real.mean().detach(), 0) / 2,
    )


def _cross_entropy(logits: Logits, label: int) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy of logits that should all mean `label`."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


@final
class VggFeatures(nn.Module):
    """Features of an image behind VGG19's last convolution (conv5_4), before its activation."""

    def __init__(self) -> None:
        """Build the convolutions, numbered as torchvision's layers, without gradients."""
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in _VGG19:
            if width is None:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers[:-1])  # the last activation is left out
        for name, values in (("mean", _IMAGENET_MEAN), ("deviation", _IMAGENET_DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.deviation: Tensor
        self.requires_grad_(False)

    def forward(self, rgb01: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 512 fh fw"]:
        """Return the features of images in 0..1, at a sixteenth of their size."""
        return self.features((rgb01 - self.mean) / self.deviation)

    @classmethod
    def from_file(cls, path: Path) -> "VggFeatures":
        """Return the features with the weights of a file, which may contain the classifier too.

        Raises:
            CheckpointError: the file can't be read, or isn't torchvision's VGG19.
        """
        with torch.device("meta"):
            expected = {name: value.shape for name, value in cls().state_dict().items()}
        remedy = "Give torchvision's VGG19 as safetensors, with names such as features.0.weight."
        try:
            with safe_open(path, framework="pt") as file:
                names = set(file.keys())
                for name, shape in expected.items():
                    found = list(file.get_slice(name).get_shape()) if name in names else None
                    if found != list(shape):
                        problem = f"{name} is {found or 'missing'}, not {list(shape)}"
                        raise CheckpointError(path, problem, remedy)
                state = {name: file.get_tensor(name).float() for name in expected}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(path, f"can't be read: {first_line(error)}", remedy) from error
        network = cls()
        network.load_state_dict(state)
        return network.eval()


def perceptual_loss(
    sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"], *, features: nn.Module
) -> Float[Tensor, ""]:
    """Return the mean absolute difference of the features of SR and HR, both in 0..1."""
    return (features(sr) - features(hr).detach()).abs().mean()


def generator_terms(
    sr: Float[Tensor, "b 3 h w"],
    hr: Float[Tensor, "b 3 h w"],
    *,
    logits: tuple[Logits, Logits],
    features: nn.Module | None,
    config: AdversarialConfig,
) -> list[LossTerm]:
    """Return the terms of the generator's loss.

    Args:
        sr: RGB in 0..1.
        hr: the same.
        logits: the discriminator's, for HR and for SR.
        features: `VggFeatures`, or None without a file.
        config: the weights.
    """
    terms = [
        LossTerm("pixel", config.pixel, (sr - hr).abs().mean()),
        LossTerm("adversarial", config.adversarial, generator_loss(*logits)),
    ]
    if features is None:
        return terms
    perceptual = perceptual_loss(sr, hr, features=features)
    return [*terms, LossTerm("perceptual", config.perceptual, perceptual)]
