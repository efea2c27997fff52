"""How this process asks the system for memory."""

import ctypes
import functools
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # numbers of mallopt's parameters in glibc's malloc.h
MIB = 2**20


@functools.cache
def keep_freed_memory():
    """Let glibc keep up to 1 GiB of what is freed, to hand it out again.

    A training step on a CPU makes and drops the same maps of some MiB each time. Unasked, glibc takes every one of them
    from the system and gives it back, and the system must clear each page anew: a fifth of the step of a resnet8.
    Returns whether it could be asked; other systems' allocators are left as they are.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    # 32 MiB is the most that glibc takes as the size from which a block always comes from the system.
    asked = [mallopt(MMAP_THRESHOLD, 32 * MIB), mallopt(TRIM_THRESHOLD, 1024 * MIB), mallopt(TOP_PAD, 64 * MIB)]
    return all(asked)
