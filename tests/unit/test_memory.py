"""What is freed stays with the process that trains."""

from __future__ import annotations

import ctypes
import platform

import pytest
import torch

from pse.training.memory import keep_freed_memory


def new_pages() -> int:
    """How many pages the system hands out while 128 MB are taken in pieces, written, and freed."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [torch.ones(1 << 18) for _ in range(128)]
    del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_was_freed_is_used_again() -> None:
    keep_freed_memory()
    new_pages()
    assert new_pages() < 3000 < 128 * (1 << 20) / 4096


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("was asked"))
    keep_freed_memory()
