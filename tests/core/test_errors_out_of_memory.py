"""Errors of libraries that report a failed allocation, and others that do not."""

import errno

import pytest
import torch

from d2csr.core.errors import ImageError, is_from_out_of_memory, is_out_of_memory

# As the libraries phrase them (public reports of OpenVINO, ONNX Runtime and torch).
ALLOCATION_FAILED = (
    "Check 'false' failed at src/core.cpp:117: Failed to allocate 7478 bytes of memory",
    "Non-zero status code returned while running Conv node. BFCArena::AllocateRawInternal(size_t) "
    "Failed to allocate memory for requested buffer of size 939524096",
    "Non-zero status code returned while running FusedMatMul node. Status Message: bad allocation",
    "std::bad_alloc",
    "[enforce fail at alloc_cpu.cpp:73] . DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 116813856768 bytes. Error code 12 (Cannot allocate memory)",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 1981808640 bytes.",
    "libopenvino.so.2641: failed to map segment from shared object",
    "can't start new thread",
    "Memory allocation error: Security limit exceeded",
    "CUDA out of memory. Tried to allocate 8.13 GiB",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
)
OTHER_ERRORS = (
    "CUDA error: an illegal memory access was encountered",
    "unsupported memory format option Preserve",
    "Input tensor's shape (1, 3, 4, 4) is not compatible with the graph's",
    "",
)


@pytest.mark.parametrize("message", ALLOCATION_FAILED)
def test_a_failed_allocation_is_recognized_by_its_message(message):
    assert is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize("error_type", [MemoryError, torch.OutOfMemoryError])
def test_an_error_class_for_it_needs_no_message(error_type):
    assert is_out_of_memory(error_type())


@pytest.mark.parametrize("message", OTHER_ERRORS)
def test_another_error_is_not(message):
    assert not is_out_of_memory(RuntimeError(message))


def test_the_systems_error_is_recognized_by_its_number():
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not is_out_of_memory(OSError(errno.ENOSPC, "out of memory.png"))


def test_an_error_is_traced_to_the_one_that_it_came_from():
    damaged = ImageError("a.png", "is damaged", "Replace it.")
    damaged.__cause__ = RuntimeError("can't decode")
    assert not is_from_out_of_memory(damaged)
    damaged.__cause__.__context__ = MemoryError()
    assert is_from_out_of_memory(damaged)
    damaged.__cause__.__context__ = damaged  # a circle, as `raise error from error` makes
    assert not is_from_out_of_memory(damaged)
