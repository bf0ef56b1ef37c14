"""Only a failed allocation counts as want of memory; every other error of a graph stays itself."""

import numpy as np
import pytest

from d2csr.core.errors import OutOfMemoryError, is_out_of_memory
from d2csr.engine.backends.base import DeviceOptions, resolve_backend

# As the libraries phrase them (public reports of OpenVINO, ONNX Runtime and torch).
SHORT = (
    "Check 'false' failed at src/core.cpp:117: Failed to allocate 7478 bytes of memory",
    "Non-zero status code returned while running Conv node. BFCArena::AllocateRawInternal(size_t) "
    "Failed to allocate memory for requested buffer of size 939524096",
    "Non-zero status code returned while running FusedMatMul node. Status Message: bad allocation",
    "std::bad_alloc",
    "[enforce fail at alloc_cpu.cpp:73] . DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 116813856768 bytes. Error code 12 (Cannot allocate memory)",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 1981808640 bytes.",
    "CUDA out of memory. Tried to allocate 8.13 GiB",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
)
OTHER = (
    "CUDA error: an illegal memory access was encountered",
    "unsupported memory format option Preserve",
    "Input tensor's shape (1, 3, 4, 4) is not compatible with the graph's",
    "",
)


@pytest.mark.parametrize("words", SHORT)
def test_a_failed_allocation_is_want_of_memory(words):
    assert is_out_of_memory(RuntimeError(words))


def test_pythons_own_memory_error_is_want_of_memory():
    assert is_out_of_memory(MemoryError())


@pytest.mark.parametrize("words", OTHER)
def test_another_error_is_not(words):
    assert not is_out_of_memory(RuntimeError(words))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_a_graph_given_the_wrong_input_fails_with_its_own_error(bundle, backend):
    options = DeviceOptions(device="cpu", precision="fp32")
    trunk = resolve_backend(bundle, backend=backend, options=options).compile("trunk")
    with pytest.raises(Exception, match=r".") as caught:
        trunk([np.zeros((1, 3, 8), np.float32)])
    assert not isinstance(caught.value, OutOfMemoryError)
