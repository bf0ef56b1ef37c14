"""The table of backends, and OpenVINO's devices by the names people give them."""

import pytest

from d2csr.core.errors import BundleError, UsageError
from d2csr.engine.backend import BACKENDS, find_backend
from d2csr.engine.backend_openvino import compile_graph, find_device

TWO_GPUS = ("CPU", "GPU.0", "GPU.1", "NPU")


@pytest.mark.parametrize("name", ["auto", *BACKENDS])
def test_every_backend_of_the_table_can_compile(name):
    assert callable(find_backend(name))


def test_an_unknown_backend_is_told_the_known_ones():
    with pytest.raises(UsageError, match=r"no backend is called 'cuda'.*auto, openvino"):
        find_backend("cuda")


@pytest.mark.parametrize(
    ("wanted", "available", "name"),
    [
        ("auto", ("CPU",), "CPU"),
        ("auto", TWO_GPUS, "CPU"),
        ("CPU", TWO_GPUS, "CPU"),
        ("-1", TWO_GPUS, "CPU"),
        ("gpu", TWO_GPUS, "GPU.0"),
        ("1", TWO_GPUS, "GPU.1"),
        ("0", ("CPU", "GPU"), "GPU"),
    ],
)
def test_a_device_is_found_by_word_or_index(wanted, available, name):
    assert find_device(wanted, available) == name


@pytest.mark.parametrize("wanted", ["gpu", "0", "cuda:0"])
def test_a_device_that_is_not_there_is_told_those_that_are(wanted):
    with pytest.raises(UsageError, match=rf"'{wanted}' is no device.*auto, cpu, -1 \(.* CPU\)"):
        find_device(wanted, ("CPU",))


def test_a_damaged_graph_is_named(tmp_path):
    path = tmp_path / "tail.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"tail\.onnx: OpenVINO can't compile it for CPU"):
        compile_graph(path, "auto")
