"""Every network against the outputs of its public code, read from the names of its weights."""

import pytest
import torch

from d2csr.core.errors import D2csrError
from d2csr.models.networks.base import SystemNetwork
from d2csr.models.networks.public_weights import PublicWeights, public_name
from d2csr.models.systems import SYSTEMS, build_system
from tests.models.networks.conftest import assert_near
from tests.tiny_systems import TINY

# Files of `systems/`: the system, the options that weights don't determine, and what they do.
FILES = {
    "SRCNN": ("srcnn", {"scale": 3}, {"features": [64, 32], "kernels": [9, 5, 5], "channels": 1}),
    "FSRCNN": ("fsrcnn", {"scale": 4}, {"features": 8, "shrunk": 4, "mappings": 2, "channels": 1}),
    "VDSR": ("vdsr", {"scale": 2}, {"features": 8, "layers": 6, "bias": False}),
    "LapSRN_official": ("lapsrn", {}, {"depth": 3, "features": 8, "upsampler": 3, "bias": True}),
    "LapSRN": ("lapsrn", {}, {"depth": 10, "features": 8, "upsampler": 4, "bias": False}),
    "DRCN": ("drcn", {"scale": 4}, {"features": 8, "recursions": 4}),
    "MemNet": ("memnet", {"scale": 2}, {"features": 8, "blocks": 3, "recursions": 2}),
    "MemNet_basic": ("memnet", {"scale": 3}, {"features": 8, "blocks": 3, "form": "basic"}),
    "SRResNet": ("srresnet", {}, {"features": 8, "blocks": 2}),
    "SRResNet_x2": ("srresnet", {}, {"features": 8, "blocks": 2}),
    "MSRResNet": ("msrresnet", {}, {"features": 8, "blocks": 2}),
    "MSRResNet_x2": ("msrresnet", {}, {"features": 8, "blocks": 2}),
    "EDSR": ("edsr", {"res_scale": 0.1}, {"features": 8, "blocks": 2}),
    "EDSR_x3": ("edsr", {"res_scale": 0.1}, {"features": 8, "blocks": 2}),
    "RCAN": ("rcan", {}, {"features": 8, "groups": 2, "blocks": 2, "reduction": 4}),
    "RCAN_x2": ("rcan", {}, {"features": 8, "groups": 2, "blocks": 2, "reduction": 4}),
    "RDN": ("rdn", {}, {"features": 12, "blocks": 2, "layers": 3, "growth": 8}),
    "RDN_x3": ("rdn", {}, {"features": 12, "blocks": 2, "layers": 3, "growth": 8}),
    "DBPN": ("dbpn", {}, {"features": 4, "head_features": 8, "units": 7}),
    "SRMDNF": ("srmdnf", {}, {"features": 8, "layers": 4, "noise": False}),
    "RRDBNet": ("rrdbnet", {}, {"features": 8, "blocks": 2, "growth": 4}),
    "RRDBNet_x2": ("rrdbnet", {}, {"features": 8, "blocks": 2, "growth": 4}),
    "SRFlow": ("srflow", {}, {"features": 8, "blocks": 4, "steps": 2, "hidden": 8}),
    "LP-KPN": ("lpkpn", {"scale": 4}, {"features": 16, "blocks": 16}),
    "CDC": ("cdc", {}, {"features": 4, "hourglasses": 6, "middle": 2, "tails": 2}),
    "SRVGGNetCompact": ("srvgg", {}, {"features": 8, "middle": 3, "activation": "prelu"}),
    "SPAN": ("span", {"img_range": 1.0}, {"features": 8, "merged": False}),
    "SAFMN": ("safmn", {}, {"features": 8, "blocks": 2, "growth": 2.0}),
    "SRMDNF_x2": ("srmdnf", {}, {"features": 8, "layers": 4, "noise": False}),
}


def read(file, name: str, **more) -> SystemNetwork:
    system, options, _ = FILES[name]
    return SYSTEMS[system].network.from_public(file.weights, where=name, **options, **more)


@pytest.mark.parametrize("name", FILES)
@torch.no_grad()
def test_a_network_computes_what_its_public_code_does(oracle, name: str):
    file = oracle(name)
    network = read(file, name)
    assert network.sizes.items() >= FILES[name][2].items()
    if isinstance(file.facts["scale"], int):
        assert network.scale == file.facts["scale"]
    pairs = list(file.pairs())
    assert pairs
    for x, expected in pairs:
        assert_near(network.native(x), expected)
        assert_near(network.native_outputs(x)[-1], expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
@torch.no_grad()
def test_the_weights_of_fsrcnn_fit_every_scale(oracle, scale: int):
    file = oracle("FSRCNN")
    network = SYSTEMS["fsrcnn"].network.from_public(file.weights, scale=scale)
    for batch in ("", "_2"):
        assert_near(network.native(file[f"input{batch}"]), file[f"output{batch}_x{scale}"])


@pytest.mark.parametrize("batch", ["", "_2"])
@torch.no_grad()
def test_the_other_outputs_are_those_of_the_public_code(oracle, batch: str):
    for name in ("LapSRN", "LapSRN_official"):
        file = oracle(name)
        x2, _ = read(file, name).native_outputs(file[f"input{batch}"])
        assert_near(x2, file[f"output{batch}_x2"])
    for name, count in (("DRCN", 4), ("MemNet", 3)):
        file = oracle(name)
        outputs = read(file, name).native_outputs(file[f"input{batch}"])
        assert len(outputs) == count + 1
        for index in range(count):
            assert_near(outputs[index], file[f"prediction_{index + 1}{batch}"])


@torch.no_grad()
def test_shared_memory_blocks_apply_their_first_unit_again(oracle):
    file = oracle("MemNet")
    released = read(file, "MemNet")
    shared = type(released)(2, **(released.sizes | {"form": "shared"})).eval()
    shared.load_state_dict({name: released.state_dict()[name] for name in shared.state_dict()})
    assert_near(shared.native(file["input"]), file["output_tied_all"])
    assert_near(shared.native(file["input_2"]), file["output_2_tied_all"])


@pytest.mark.parametrize("name", ["SRMDNF", "SRMDNF_x2"])
@torch.no_grad()
def test_the_code_of_srmdnf_fills_planes_behind_the_image(oracle, name: str):
    file = oracle(name)
    code = file["input_code"].flatten().tolist()
    network = read(file, name, code=code)
    assert_near(network.native_input(file["input_lr"]), file["input"])
    assert_near(network(file["input_lr"]), file["output"])


@pytest.mark.parametrize("name", FILES)
def test_every_tensor_of_the_file_is_in_the_network(oracle, name: str):
    file = oracle(name)
    network = read(file, name)
    layers = network.public_layers()
    state = network.state_dict()
    read_back = {public_name(ours, layers): value for ours, value in state.items()}
    read_back.pop(None, None)
    adapted = network.adapt_public(PublicWeights(file.weights, where=name)).tensors
    assert read_back.keys() == adapted.keys()
    for theirs, value in adapted.items():
        if theirs != "output_weights":
            assert read_back[theirs].equal(value)


@pytest.mark.parametrize("name", FILES)
def test_weights_of_one_network_are_refused_by_the_others(oracle, name: str):
    weights, own = oracle(name).weights, FILES[name][0]
    for system, spec in SYSTEMS.items():
        if spec.network is not None and system != own:
            options = dict.fromkeys(spec.network.unreadable, 2)
            with pytest.raises(D2csrError, match=r"^file\.pth: ") as caught:
                spec.network.from_public(weights, where="file.pth", **options)
            assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", FILES)
def test_weights_without_one_of_their_tensors_are_refused(oracle, name: str):
    file = oracle(name)
    system, options, _ = FILES[name]
    names = [each for each in file.weights if ".eval_conv." not in each]  # SPAN needs none
    if name == "VDSR":
        names.remove("residual_layer.3.conv.weight")  # without it, this is a shorter VDSR
    for lost in names[:: max(1, len(names) // 6)]:
        weights = {each: value for each, value in file.weights.items() if each != lost}
        with pytest.raises(D2csrError, match=r"^file\.pth: "):
            SYSTEMS[system].network.from_public(weights, where="file.pth", **options)


@pytest.mark.parametrize("name", sorted({system for system, _, _ in FILES.values()}))
@torch.no_grad()
def test_sizes_are_read_from_names_and_shapes_at_every_scale(name: str):
    network = SYSTEMS[name].network
    for scale in network.scales:
        if name == "lapsrn" and scale == 3:
            continue  # its weights are those of x4
        built = build_system(name, scale=scale, **TINY[name]).eval()
        layers = built.public_layers()
        names = {ours: public_name(ours, layers) for ours in built.state_dict()}
        state = {theirs: built.state_dict()[ours] for ours, theirs in names.items() if theirs}
        if name == "drcn":  # the port's factor of the input
            weights = state["output_weights"]
            state["output_weights"] = torch.cat([weights.sum()[None], weights])
        arguments = {"scale": scale, **built.sizes}
        options = {option: arguments[option] for option in network.unreadable}
        found = network.from_public(state, **options)
        assert (found.scale, found.sizes) == (scale, built.sizes)
        lr = torch.rand(1, 3, 5, 6)
        assert found(lr).equal(built(lr))


def basicsr(name: str, weights: dict[str, torch.Tensor], **parts: int) -> dict[str, torch.Tensor]:
    """Return weights of EDSR or RCAN by BasicSR's names, which store no mean."""
    end = {
        "head.0": "conv_first",
        f"body.{parts['body']}": "conv_after_body",
        "tail.1": "conv_last",
    }
    renamed = {}
    for theirs, value in weights.items():
        layer, _, kind = theirs.rpartition(".")
        steps = layer.split(".")
        if "mean" in layer:
            continue
        if layer in end:
            layer = end[layer]
        elif layer.startswith("tail.0"):
            layer = f"upsample.{steps[2]}"
        elif name == "EDSR":
            layer = f"body.{steps[1]}.conv{1 + int(steps[3]) // 2}"
        elif len(steps) == 4:
            layer = f"body.{steps[1]}.conv"
        elif "conv_du" in layer:
            gate = 1 + int(steps[7])
            layer = f"body.{steps[1]}.residual_group.{steps[3]}.rcab.3.attention.{gate}"
        else:
            layer = f"body.{steps[1]}.residual_group.{steps[3]}.rcab.{steps[5]}"
        renamed[f"{layer}.{kind}"] = value
    return renamed


@pytest.mark.parametrize("name", ["EDSR", "EDSR_x3", "RCAN", "RCAN_x2"])
@torch.no_grad()
def test_basicsr_names_of_edsr_and_rcan_compute_in_0_to_1(oracle, name: str):
    file = oracle(name)
    system, options, _ = FILES[name]
    weights = basicsr(name.partition("_")[0], file.weights, body=2)
    assert "conv_after_body.weight" in weights
    network = SYSTEMS[system].network.from_public(weights, **options)
    assert network.value_range == 1
    for x, expected in file.pairs():
        assert_near(network.native(x / 255), expected / 255)
        assert_near(network(x / 255), expected / 255)


@pytest.mark.parametrize("name", ["RDN", "RDN_x3"])
@torch.no_grad()
def test_yjn870s_names_of_rdn_are_read(oracle, name: str):
    file = oracle(name)
    last = max(int(each.split(".")[1]) for each in file.weights if each.startswith("UPNet"))
    replaced = {
        "SFENet": "sfe", "RDBs": "rdbs", "convs": "layers", "conv.0": "conv", "LFF": "lff",
        "GFF": "gff", f"UPNet.{last}": "output", "UPNet": "upscale",
    }  # fmt: skip
    weights = {}
    for theirs, value in file.weights.items():
        renamed = theirs
        for old, new in replaced.items():
            renamed = renamed.replace(old, new)
        weights[renamed] = value
    network = SYSTEMS["rdn"].network.from_public(weights)
    for x, expected in file.pairs():
        assert_near(network.native(x), expected)
