"""ESRGAN's losses against BasicSR's values, the equations in loops, and VGG19 by its definition."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from d2csr.core.errors import D2csrError
from d2csr.losses.adversarial import (
    AdversarialConfig,
    VggFeatures,
    discriminator_losses,
    generator_loss,
    generator_terms,
    perceptual_loss,
)


def test_the_relativistic_loss_has_basicsrs_values(data_folder):
    with np.load(data_folder / "systems" / "ESRGAN_discriminator.npz") as arrays:
        values = {name: torch.from_numpy(arrays[name]) for name in arrays if "ragan" in name}
    real, fake = values["ragan_real_logits"], values["ragan_fake_logits"]
    found = {
        "g_weight5em3": 5e-3 * generator_loss(real, fake),
        "d_real": discriminator_losses(real, fake)[0],
        "d_fake": discriminator_losses(real, fake)[1],
    }
    for name, value in found.items():
        torch.testing.assert_close(value, values[f"ragan_loss_{name}"], rtol=1e-5, atol=0)


def test_the_relativistic_loss_is_its_equation():
    real, fake = [0.3, -1.2, 2.0], [0.1, 0.9, -0.4]
    mean_real, mean_fake = sum(real) / 3, sum(fake) / 3

    def log_sigmoid(x: float) -> float:
        return -math.log1p(math.exp(-x))

    tensors = [torch.tensor(values)[:, None] for values in (real, fake)]
    d_real = -sum(log_sigmoid(each - mean_fake) for each in real) / 3
    d_fake = -sum(log_sigmoid(mean_real - each) for each in fake) / 3
    assert [float(each) for each in discriminator_losses(*tensors)] == pytest.approx(
        [d_real / 2, d_fake / 2]
    )
    generator = -sum(log_sigmoid(mean_fake - each) for each in real) / 3
    generator -= sum(log_sigmoid(each - mean_real) for each in fake) / 3
    assert float(generator_loss(*tensors)) == pytest.approx(generator / 2)


def test_gradients_reach_only_what_each_side_trains():
    real, fake = (torch.randn(4, 1, requires_grad=True) for _ in range(2))
    generator_loss(real, fake).backward()
    assert real.grad is None
    assert fake.grad.all()
    fake.grad = None
    discriminator_losses(real, fake)[0].backward()
    assert real.grad.all()
    assert fake.grad is None


CHANNELS = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), *[(256, 256)] * 3, (256, 512),
            *[(512, 512)] * 7]  # fmt: skip
LAYERS = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]  # torchvision's numbers
POOLED_BEFORE = {5, 10, 19, 28}


@pytest.fixture(scope="module")
def vgg_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {"classifier.0.bias": torch.zeros(4)}
    for layer, (inputs, outputs) in zip(LAYERS, CHANNELS, strict=True):
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
        state[f"features.{layer}.weight"] = weight * (2 / (9 * inputs)) ** 0.5
        state[f"features.{layer}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    return state


@pytest.fixture(scope="module")
def vgg_file(vgg_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    save_file(vgg_state, path)
    return path


@torch.no_grad()
def test_features_are_those_of_conv5_4_before_its_activation(vgg_state, vgg_file):
    network = VggFeatures.from_file(vgg_file)
    image = torch.rand(1, 3, 32, 48)
    features = (image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    for layer in LAYERS:
        features = F.max_pool2d(features, 2) if layer in POOLED_BEFORE else features
        weight, bias = vgg_state[f"features.{layer}.weight"], vgg_state[f"features.{layer}.bias"]
        features = F.conv2d(features, weight, bias, padding=1)
        last, features = features, F.relu(features)
    assert last.min() < 0
    torch.testing.assert_close(network(image), last)
    sr = torch.rand(1, 3, 32, 48)
    expected = (network(sr) - last).abs().mean()
    torch.testing.assert_close(perceptual_loss(sr, image, features=network), expected)


def test_no_weight_of_vgg_is_trained_but_sr_gets_a_gradient(vgg_file):
    network = VggFeatures.from_file(vgg_file)
    sr = torch.rand(1, 3, 16, 16, requires_grad=True)
    perceptual_loss(sr, torch.rand(1, 3, 16, 16), features=network).backward()
    assert sr.grad.any()
    assert not any(value.requires_grad for value in network.parameters())


def test_files_that_are_not_vgg19_are_refused_by_their_name(tmp_path, vgg_state):
    broken, other = tmp_path / "broken.safetensors", tmp_path / "other.safetensors"
    broken.write_bytes(b"no header")
    save_file({**vgg_state, "features.5.weight": torch.ones(3)}, other)
    for path, message in [
        (tmp_path / "none.safetensors", "can't be read"),
        (broken, "can't be read"),
        (other, r"features\.5\.weight is \[3\], not \[128, 64, 3, 3\]"),
    ]:
        with pytest.raises(D2csrError, match=message) as caught:
            VggFeatures.from_file(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_terms_have_the_weights_of_the_paper(vgg_file):
    sr, hr, logits = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16), torch.randn(2, 1)
    config = AdversarialConfig(vgg_file=str(vgg_file))
    network = VggFeatures.from_file(vgg_file)
    terms = generator_terms(sr, hr, logits=(logits, -logits), features=network, config=config)
    values = {term.name: (term.weight, float(term.value)) for term in terms}
    assert values == {
        "pixel": (1e-2, pytest.approx(float((sr - hr).abs().mean()))),
        "adversarial": (5e-3, pytest.approx(float(generator_loss(logits, -logits)))),
        "perceptual": (1.0, pytest.approx(float(perceptual_loss(sr, hr, features=network)))),
    }


def test_without_a_file_the_omission_is_stated():
    config = AdversarialConfig()
    assert "perceptual term is left out" in config.omission()
    assert AdversarialConfig(perceptual=0.0).omission() is None
    assert AdversarialConfig(vgg_file="vgg19.safetensors").omission() is None
    sr, logits = torch.rand(1, 3, 8, 8), torch.randn(1, 1)
    terms = generator_terms(sr, sr, logits=(logits, logits), features=None, config=config)
    assert [term.name for term in terms] == ["pixel", "adversarial"]


def test_weights_below_0_are_refused():
    with pytest.raises(D2csrError, match="must be at least 0"):
        AdversarialConfig(pixel=-1.0)
