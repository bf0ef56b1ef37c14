"""Memory, disk space and processor features, against files written by hand."""

import resource
from pathlib import Path

import numpy as np
import pytest

from d2csr.core import hardware
from d2csr.core.errors import BundleError, OutOfMemoryError

GIB = 1 << 30


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder in place of the control groups', on a machine with 64 GiB free."""
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    monkeypatch.setattr(hardware, "_system_free_bytes", lambda: 64 * GIB)
    return tmp_path


def test_without_a_control_group_free_memory_is_the_systems(cgroup):
    assert hardware.free_bytes() == 64 * GIB


@pytest.mark.parametrize(("limit", "free"), [(str(4 * GIB), 3 * GIB), ("max\n", 64 * GIB)])
def test_a_control_groups_limit_counts(cgroup, limit, free):
    (cgroup / "memory.max").write_text(limit)
    (cgroup / "memory.current").write_text(str(GIB))
    assert hardware.free_bytes() == free


def test_a_group_over_its_limit_has_nothing_free(cgroup):
    (cgroup / "memory.max").write_text("10")
    (cgroup / "memory.current").write_text("20")
    assert hardware.free_bytes() == 0


def test_the_peak_is_reset_and_follows_what_is_held():
    hardware.reset_peak_rss()
    before = hardware.peak_rss_bytes()
    held = np.ones(40 << 20, np.uint8)
    assert hardware.rss_bytes() > before + (30 << 20)
    del held
    assert hardware.peak_rss_bytes() > before + (30 << 20)


def test_without_proc_all_memory_of_the_process_is_unknown(monkeypatch, tmp_path):
    """Both used to answer differently: one with 0, the other with None."""
    monkeypatch.setattr(hardware, "_STATUS", tmp_path / "status")
    assert (hardware.rss_bytes(), hardware.peak_rss_bytes()) == (None, None)


def test_a_folder_that_is_not_writable_has_no_free_disk_space(monkeypatch, tmp_path):
    assert hardware.free_disk_bytes(tmp_path) > 0
    monkeypatch.setattr("os.access", lambda folder, mode: False)
    assert hardware.free_disk_bytes(tmp_path) == 0


@pytest.mark.parametrize(
    ("size", "text"), [(1, "1 MiB"), (3 << 20, "3 MiB"), (int(10.5 * GIB), "10.5 GiB")]
)
def test_sizes_are_written_for_people(size, text):
    assert hardware.format_bytes(size) == text


@pytest.mark.parametrize(
    ("text", "has_bf16"),
    [
        ("model name\t: x\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16 amx_int8\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("model name\t: bf16\nflags\t\t: fpu avx2 avx512f\n", False),
    ],
)
def test_bfloat16_is_read_from_the_processors_features(monkeypatch, tmp_path, text, has_bf16):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(hardware, "_CPU_INFO", tmp_path / "cpuinfo")
    assert hardware.cpu_has_bf16() == has_bf16


def test_without_proc_no_feature_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "_CPU_INFO", tmp_path / "cpuinfo")
    assert hardware.cpu_flags() == frozenset()


@pytest.fixture
def limits(cgroup, monkeypatch, tmp_path):
    """Return the limits, to be set, of a process that has mapped 1 GiB, 0.5 GiB of them data."""
    values = {resource.RLIMIT_AS: resource.RLIM_INFINITY, resource.RLIMIT_DATA: 2 * GIB}
    status = tmp_path / "status"
    status.write_text(f"VmSize:\t{GIB >> 10} kB\nVmData:\t{GIB >> 11} kB\n")
    monkeypatch.setattr(hardware, "_STATUS", status)
    monkeypatch.setattr("resource.getrlimit", lambda number: (values[number], -1))
    return values


def test_limits_of_the_process_count_as_memory(limits):
    assert hardware.free_bytes() == 3 * GIB // 2
    limits[resource.RLIMIT_AS] = 5 * GIB // 4
    assert hardware.free_bytes() == GIB // 4
    assert hardware.lacks_address_space(GIB // 4 + 1)
    assert not hardware.lacks_address_space(GIB // 4)


def test_an_address_space_too_small_is_refused_with_the_least_that_is_needed(limits):
    hardware.fit_address_space(GIB)  # without a limit
    limits[resource.RLIMIT_AS] = GIB
    with pytest.raises(OutOfMemoryError, match=r"allows 1024 MiB.*to 1025 MiB at least"):
        hardware.fit_address_space(GIB + 1)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "memory: 1536 MiB of memory is free, too little (MemoryError). Close"),
        (
            BundleError("b", "is bad", "Copy it."),
            "b: 1536 MiB of memory is free, too little (is bad",
        ),
    ],
)
def test_a_failed_allocation_keeps_its_place_and_not_its_advice(limits, error, message):
    assert str(hardware.out_of_memory(error)).startswith(message)
    assert "Copy" not in str(hardware.out_of_memory(error))
    limits[resource.RLIMIT_AS] = 2 * GIB
    assert "1024 MiB of memory is free of the 2048 MiB that `ulimit -v`" in str(
        hardware.out_of_memory(error)
    )
