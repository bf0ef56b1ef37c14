"""Systems that D2C-SR is compared with, in one table: network, sizes, and the paper's training.

`paper` sizes have the parameters that the papers publish. `small` ones need the operations of
the 16-channel D2C-SR: within 10% of it at x3, counted per LR megapixel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from d2csr.core.errors import UsageError
from d2csr.models.networks.base import SystemNetwork, check_sizes, unknown_name
from d2csr.models.networks.dense import DBPN, RDN
from d2csr.models.networks.hourglass import CDC
from d2csr.models.networks.kernel_prediction import LPKPN
from d2csr.models.networks.lightweight import SAFMN, SPAN, SRVGGNetCompact
from d2csr.models.networks.plain import FSRCNN, SRCNN, SRMDNF, VDSR
from d2csr.models.networks.residual import EDSR, RCAN, MSRResNet, SRResNet
from d2csr.models.networks.rrdb import RRDBNet
from d2csr.models.networks.srflow import SRFlow
from d2csr.models.networks.supervised import DRCN, LapSRN, MemNet
from d2csr.models.system_spec import PaperTraining, SystemSpec

_TRAIN_291 = "291 images (Yang et al., BSDS)"
_DIV2K = "DIV2K 1-800, flips and rotations"
_FOUR_HALVINGS = "halved after 50,000, 100,000, 200,000 and 300,000 steps"
_SPECS = (
    SystemSpec("bicubic", "Bicubic", "Keys, TASSP 1981", None, {}, "none", None),
    SystemSpec(
        "srcnn",
        "SRCNN",
        "Dong et al., TPAMI 2016",
        SRCNN,
        {
            "paper": {"features": [64, 32], "kernels": [9, 5, 5]},
            "small": {"features": [44, 22], "kernels": [9, 5, 5]},
        },
        "mse",
        PaperTraining("SGD, momentum 0.9", 1e-4, "fixed; last layer 0.1 of it", 128, 33, "T91"),
    ),
    SystemSpec(
        "fsrcnn",
        "FSRCNN",
        "Dong et al., ECCV 2016",
        FSRCNN,
        {
            "paper": {"features": 56, "shrunk": 12, "mappings": 4},
            "small": {"features": 64, "shrunk": 48, "mappings": 12},
        },
        "mse",
        PaperTraining(
            "SGD, momentum 0.9", 1e-3, "fixed; last layer 0.1 of it", 128, 10, "T91, General-100"
        ),
    ),
    SystemSpec(
        "vdsr",
        "VDSR",
        "Kim et al., CVPR 2016",
        VDSR,
        {
            "paper": {"features": 64, "layers": 20, "bias": True},
            "small": {"features": 16, "layers": 14, "bias": True},
        },
        "mse",
        PaperTraining(
            "SGD, momentum 0.9, decay 1e-4, gradients clipped",
            0.1,
            "a tenth every 20 of 80 epochs",
            64,
            41,
            _TRAIN_291,
        ),
    ),
    SystemSpec(
        "lapsrn",
        "LapSRN",
        "Lai et al., CVPR 2017",
        LapSRN,
        {"paper": {"features": 64, "depth": 10}, "small": {"features": 28, "depth": 6}},
        "multi-scale-charbonnier",
        PaperTraining(
            "SGD, momentum 0.9, decay 1e-4",
            1e-5,
            "halved every 50 epochs, at least 1e-6; biases 0.1 of it",
            64,
            32,
            "T91 and BSDS200, rescaled 0.5 to 1, flips and rotations",
        ),
    ),
    SystemSpec(
        "drcn",
        "DRCN",
        "Kim et al., CVPR 2016",
        DRCN,
        {"paper": {"features": 256, "recursions": 16}, "small": {"features": 12, "recursions": 10}},
        "recursive-supervision",
        PaperTraining(
            "SGD, momentum 0.9, decay 1e-4",
            0.01,
            "a tenth when validation stalls for 5 epochs, to 1e-6",
            64,
            41,
            "T91",
        ),
    ),
    SystemSpec(
        "memnet",
        "MemNet",
        "Tai et al., ICCV 2017",
        MemNet,
        {
            "paper": {"features": 64, "blocks": 6, "recursions": 6},
            "small": {"features": 16, "blocks": 2, "recursions": 3},
        },
        "multi-supervision",
        PaperTraining(
            "SGD, momentum 0.9, decay 1e-4, gradients clipped",
            0.1,
            "a tenth every 20 epochs",
            64,
            31,
            _TRAIN_291,
        ),
    ),
    SystemSpec(
        "srresnet",
        "SRResNet",
        "Ledig et al., CVPR 2017",
        SRResNet,
        {"paper": {"features": 64, "blocks": 16}, "small": {"features": 28, "blocks": 8}},
        "mse",
        PaperTraining("Adam", 1e-4, "fixed", 16, 24, "ImageNet, 350,000 images", 1_000_000),
    ),
    SystemSpec(
        "msrresnet",
        "MSRResNet",
        "Ledig et al., CVPR 2017, without batch normalization (BasicSR)",
        MSRResNet,
        {"paper": {"features": 64, "blocks": 16}, "small": {"features": 32, "blocks": 5}},
        "l1",
        PaperTraining("Adam (0.9, 0.99)", 2e-4, "cosine, 4 restarts", 16, 32, _DIV2K, 1_000_000),
    ),
    SystemSpec(
        "edsr",
        "EDSR",
        "Lim et al., CVPRW 2017",
        EDSR,
        {
            "paper": {"features": 256, "blocks": 32, "res_scale": 0.1},
            "small": {"features": 32, "blocks": 8, "res_scale": 1.0},
        },
        "l1",
        PaperTraining(
            "Adam (0.9, 0.999)", 1e-4, "halved every 200,000 steps", 16, 48, _DIV2K, 300_000
        ),
    ),
    SystemSpec(
        "rcan",
        "RCAN",
        "Zhang et al., ECCV 2018",
        RCAN,
        {
            "paper": {"features": 64, "groups": 10, "blocks": 20, "reduction": 16},
            "small": {"features": 24, "groups": 4, "blocks": 4, "reduction": 8},
        },
        "l1",
        PaperTraining("Adam (0.9, 0.999)", 1e-4, "halved every 200,000 steps", 16, 48, _DIV2K),
    ),
    SystemSpec(
        "rdn",
        "RDN",
        "Zhang et al., CVPR 2018",
        RDN,
        {
            "paper": {"features": 64, "blocks": 16, "layers": 8, "growth": 64},
            "small": {"features": 24, "blocks": 4, "layers": 4, "growth": 22},
        },
        "l1",
        PaperTraining("Adam", 1e-4, "halved every 200 epochs of 1000 steps", 16, 32, _DIV2K),
    ),
    SystemSpec(
        "dbpn",
        "D-DBPN",
        "Haris et al., CVPR 2018",
        DBPN,
        {
            "paper": {"features": 64, "head_features": 256, "units": 7},
            "small": {"features": 15, "head_features": 64, "units": 4},
        },
        "l1",
        PaperTraining("Adam", 1e-4, "a tenth at half time", 16, 40, "DIV2K, Flickr2K and ImageNet"),
    ),
    SystemSpec(
        "srmdnf",
        "SRMDNF",
        "Zhang et al., CVPR 2018",
        SRMDNF,
        {"paper": {"features": 128, "layers": 12}, "small": {"features": 64, "layers": 8}},
        "l1",
        PaperTraining("Adam", 1e-4, "stepwise", 64, 24, "DIV2K and others, blurred by Gaussians"),
    ),
    SystemSpec(
        "rrdbnet",
        "ESRGAN",
        "Wang et al., ECCVW 2018",
        RRDBNet,
        {
            "paper": {"features": 64, "blocks": 23, "growth": 32},
            "small": {"features": 16, "blocks": 5, "growth": 8},
        },
        "adversarial",
        PaperTraining(
            "Adam (0.9, 0.99)", 1e-4, _FOUR_HALVINGS, 16, 32, "DIV2K, Flickr2K and OST", 400_000
        ),
    ),
    SystemSpec(
        "srflow",
        "SRFlow",
        "Lugmayr et al., ECCV 2020",
        SRFlow,
        {
            "paper": {"features": 64, "blocks": 23, "growth": 32, "steps": 16, "hidden": 64},
            "small": {"features": 12, "blocks": 4, "growth": 6, "steps": 4, "hidden": 12},
        },
        "likelihood",
        PaperTraining(
            "Adam (0.9, 0.99)",
            2.5e-4,
            "halved at 50, 75, 90 and 95%; the encoder, trained with L1, is fixed to 50%",
            12,
            40,
            "DIV2K and Flickr2K",
            200_000,
        ),
    ),
    SystemSpec(
        "lpkpn",
        "LP-KPN",
        "Cai et al., ICCV 2019",
        LPKPN,
        {"paper": {"features": 64, "blocks": 16}, "small": {"features": 32, "blocks": 4}},
        "pyramid",
        PaperTraining("Adam (0.9, 0.999), decay 1e-4", 1e-4, "fixed", 64, 192, "RealSR", 1_000_000),
    ),
    SystemSpec(
        "cdc",
        "CDC",
        "Wei et al., ECCV 2020",
        CDC,
        {
            "paper": {"features": 64, "hourglasses": 6, "middle": 2, "tails": 2},
            "small": {"features": 10, "hourglasses": 6, "middle": 2, "tails": 2},
        },
        "components",
        PaperTraining("Adam", 2e-4, "halved every 200,000 steps", 16, 48, "DRealSR", 800_000),
    ),
    SystemSpec(
        "srvgg",
        "SRVGGNetCompact",
        "Wang et al., ICCVW 2021 (Real-ESRGAN)",
        SRVGGNetCompact,
        {"paper": {"features": 64, "middle": 16}, "small": {"features": 48, "middle": 12}},
        "l1",
        None,
    ),
    SystemSpec(
        "span",
        "SPAN",
        "Wan et al., CVPRW 2024",
        SPAN,
        {"paper": {"features": 48}, "small": {"features": 38}},
        "l1",
        None,
    ),
    SystemSpec(
        "safmn",
        "SAFMN",
        "Sun et al., ICCV 2023",
        SAFMN,
        {"paper": {"features": 36, "blocks": 8}, "small": {"features": 36, "blocks": 9}},
        "l1",
        PaperTraining(
            "Adam (0.9, 0.99)", 1e-3, "cosine to 1e-5", 64, 64, "DIV2K and Flickr2K", 500_000
        ),
    ),
    SystemSpec("d2csr", "D2C-SR", "Li et al., ECCV 2022", None, {}, "none", None),
)
SYSTEMS: dict[str, SystemSpec] = {spec.name: spec for spec in _SPECS}


# Other names of the systems, in papers and public code: small letters and digits alone.
SYSTEM_ALIASES = {
    "esrgan": "rrdbnet",
    "rrdb": "rrdbnet",
    "realesrgan": "rrdbnet",
    "ddbpn": "dbpn",
    "srmd": "srmdnf",
    "srvggnetcompact": "srvgg",
    "srgan": "srresnet",
}


def find_system(name: str) -> SystemSpec:
    """Return the system of a name or an alias; capitals, dashes and such don't matter.

    Raises:
        UsageError: there is none; the message has the nearest one and the list.
    """
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    name = SYSTEM_ALIASES.get(plain, plain if plain in SYSTEMS else name)
    if name not in SYSTEMS:
        raise unknown_name(name, tuple(SYSTEMS), kind="system", where="system")
    return SYSTEMS[name]


def build_system(name: str, *, scale: int, size: str = "small", **sizes: Any) -> SystemNetwork:
    """Return a system's network with random weights.

    Args:
        name: a key of `SYSTEMS`.
        scale: SR pixels per LR pixel.
        size: `paper` or `small`.
        sizes: constructor arguments that replace those of the size.

    Raises:
        UsageError: name, size, scale or an argument doesn't exist, or has no network.
    """
    spec = find_system(name)
    where = f"system {name}"
    if spec.network is None:
        names = ", ".join(each.name for each in _SPECS if each.network is not None)
        problem = "it is no network of this table"
        raise UsageError(where, problem, remedy=f"Choose among {names}.")
    if size not in spec.sizes:
        raise unknown_name(size, tuple(spec.sizes), kind="size", where=where)
    arguments = {"scale": scale, **spec.sizes[size], **sizes}
    check_sizes(spec.network, arguments, where=where)
    return spec.network(**arguments)


@dataclass(frozen=True)
class SystemModel:
    """A network of this table, as a recipe names it.

    Attributes:
        system: its name in the table.
        scale: SR pixels per LR pixel.
        size: `paper` or `small`.
        sizes: constructor arguments that replace those of the size.
    """

    system: str
    scale: int
    size: str = "small"
    sizes: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> SystemNetwork:
        """Return the network with random weights.

        Raises:
            UsageError: name, size, scale or an argument doesn't exist.
        """
        return build_system(self.system, scale=self.scale, size=self.size, **self.sizes)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a recipe has them, as JSON values."""
        named = {"system": self.system, "scale": self.scale, "size": self.size}
        return {**named, **self.sizes}


def describe_network(network: SystemNetwork) -> SystemModel:
    """Return the description of a network, every size of it given."""
    name = next(name for name, spec in SYSTEMS.items() if spec.network is type(network))
    return SystemModel(name, network.scale, sizes=network.sizes)
