"""Files of public code: every format is read, other networks are named, programs are refused."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from d2csr.checkpoint.public import fitting_systems, load_public_system, read_public_state
from d2csr.core.errors import D2csrError
from d2csr.models.networks.public_weights import public_name
from tests.tiny_systems import NAMES, tiny_system


def public_state(name: str, **sizes: object) -> dict[str, torch.Tensor]:
    """Return the weights of a tiny network under the names of its public code."""
    network = tiny_system(name, **sizes)
    layers, state = network.public_layers(), network.state_dict()
    renamed = {public_name(ours, layers): value for ours, value in state.items()}
    renamed.pop(None, None)
    if name == "drcn":  # the port's factor of the input
        weights = renamed["output_weights"]
        renamed["output_weights"] = torch.cat([weights.sum()[None], weights])
    return renamed


FORMATS = {
    "weights.pth": torch.save,
    "wrapped.pth": lambda state, path: torch.save({"params_ema": state, "iter": 3}, path),
    "trainer.pt": lambda state, path: torch.save(
        {"epoch": 3, "state_dict": {f"module.{name}": state[name] for name in state}}, path
    ),
    "before_1_6.pt": lambda state, path: torch.save(
        state, path, _use_new_zipfile_serialization=False
    ),
    "weights.safetensors": lambda state, path: save_file(
        {name: value.contiguous() for name, value in state.items()}, path
    ),
}


@pytest.mark.parametrize("name", FORMATS)
@torch.no_grad()
def test_every_format_gives_the_same_network(tmp_path, name: str):
    path, network = tmp_path / name, tiny_system("edsr")
    FORMATS[name](public_state("edsr"), path)
    found = load_public_system(path, "EDSR", options={"res_scale": 1.0})
    x = torch.rand(1, 3, 5, 6) * 255
    assert found.native(x).equal(network.native(x))


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_recognized_among_all_systems(name: str):
    """Weights of VDSR without biases are a stack of convolutions, but no other system's."""
    assert fitting_systems(public_state(name)) == [name]


def test_a_checkpoint_of_another_system_is_named(tmp_path):
    torch.save(public_state("rcan"), tmp_path / "a.pth")
    with pytest.raises(D2csrError, match=r"a\.pth: these are no weights of edsr .* fit rcan"):
        load_public_system(tmp_path / "a.pth", "edsr", options={"res_scale": 1.0})


def test_weights_of_no_system_are_refused_by_what_is_missing(tmp_path):
    torch.save({"a.weight": torch.ones(3)}, tmp_path / "a.pth")
    with pytest.raises(D2csrError, match=r"a\.pth: .*conv_first\.weight is missing.*no other"):
        load_public_system(tmp_path / "a.pth", "rrdbnet", options={})


class Command:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def twice_nested(levels: int) -> bytes:
    """Return a pickle of a dictionary whose key takes 2^levels steps to hash."""
    inner = b"(I0\nt" + b"".join(b"q%c" % n + b"h%c" % n + b"\x86" for n in range(levels))
    return b"\x80\x02}" + inner + b"I1\ns."


def zipped(path: Path, program: bytes, *, values: bytes = b""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data/0", values)


HOSTILE = {
    "a command": lambda path: torch.save({"weight": Command()}, path),
    "a command before 1.6": lambda path: path.write_bytes(pickle.dumps({"weight": Command()})),
    "an object": lambda path: torch.save({"weight": Path("a")}, path),
    "text": lambda path: torch.save({"weight": "text"}, path),
    "no dictionary": lambda path: torch.save(torch.ones(3), path),
    "cut short": lambda path: (
        torch.save({"weight": torch.ones(99)}, path),
        path.write_bytes(path.read_bytes()[:-300]),
    ),
    "an image": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "empty": lambda path: path.write_bytes(b""),
    "another archive": lambda path: zipfile.ZipFile(path, "w").close(),
    "a key that hashes for ever": lambda path: zipped(path, twice_nested(60)),
    "the same before 1.6": lambda path: path.write_bytes(twice_nested(60)),
    "many operations": lambda path: zipped(path, b"\x80\x02" + b"]0" * 2000 + b"N."),
    "a large pickle": lambda path: zipped(path, b"\x80\x02" + b"N0" * (9 << 20) + b"N."),
    "a folder": lambda path: path.mkdir(),
    "missing": lambda path: None,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_is_no_file_of_tensors_is_refused(tmp_path, monkeypatch, kind: str):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("d2csr.checkpoint.public._MAX_OPCODES", 3000)
    path = tmp_path / "file.pth"
    HOSTILE[kind](path)
    with pytest.raises(D2csrError, match=r"file\.pth: ") as caught:
        read_public_state(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not (tmp_path / "executed").exists()


def test_an_archive_that_unpacks_to_too_much_is_refused_by_its_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr("d2csr.checkpoint.public.MAX_BYTES", 1 << 20)
    zipped(tmp_path / "file.pth", b"N.", values=bytes(2 << 20))
    with pytest.raises(D2csrError, match=r"file\.pth: unpacks to over 1,048,576 bytes"):
        read_public_state(tmp_path / "file.pth")


def test_the_state_of_an_optimizer_beside_the_weights_is_no_obstacle(tmp_path):
    network = torch.nn.Conv2d(3, 4, 3)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.rand(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(state, tmp_path / "a.pth")
    assert read_public_state(tmp_path / "a.pth").keys() == {"weight", "bias"}
