"""Settings of the C library's memory allocator."""

import ctypes
import functools
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # numbers of mallopt's parameters in glibc's malloc.h
MIB = 2**20


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc keep up to 1 GiB of freed memory for reuse. Returns False if this system has another C library.

    A training step on a CPU allocates and frees the same tensors of some MiB each time. By default, glibc returns them
    to the system, which clears the pages again at every step: a fifth of the step of a resnet8.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    # 32 MiB is the largest threshold that glibc accepts.
    accepted = [mallopt(MMAP_THRESHOLD, 32 * MIB), mallopt(TRIM_THRESHOLD, 1024 * MIB), mallopt(TOP_PAD, 64 * MIB)]
    return all(accepted)
