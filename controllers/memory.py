"""How the C library deals with memory that is freed and asked for again at every update."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK, KEPT = 32 << 20, 512 << 20


def keep_freed_memory() -> None:
    """Let this process keep up to 512 MiB of what it has freed; where the C library is not glibc, do nothing.

    The activations of an update are blocks of megabytes. By default glibc may hand these back to the system
    and ask for them anew, at a page fault every 4 KiB: up to a thousand faults an update.
    Source: mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
    mallopt(M_TRIM_THRESHOLD, KEPT)
