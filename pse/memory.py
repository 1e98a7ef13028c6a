"""Memory of freed tensors stays with the process that works on many."""

from __future__ import annotations

import ctypes
import platform

# Of malloc.h: how much may lie free at the top of the heap, how much is mapped for itself, how many heaps there are.
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Ask the C library to keep what is freed, for all threads alike; does nothing where it is not glibc.

    A step on a processor frees some hundred MB and asks for as much in the next one. Given back in
    between, each page comes from the system again, zeroed: a quarter to a third of a training step's time,
    and a fifth of that of separating a recording. A tensor of more than 32 MB would be, for what is mapped
    for itself is given back whatever its size.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    set_option = ctypes.CDLL(None).mallopt
    set_option(TRIM_THRESHOLD, -1)
    set_option(MMAP_MAX, 0)
    set_option(ARENA_MAX, 1)
