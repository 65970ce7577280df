"""How this process uses its processor and memory while it trains."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK, KEPT = 32 << 20, 512 << 20


@contextmanager
def tuned(threads: int) -> Iterator[None]:
    """Torch set up for small networks on `threads` threads; afterwards as it was before.

    Products round otherwise meanwhile: all that a run computes, from its networks' start or its checkpoint
    on, belongs inside. Denormal numbers are taken as 0. Freed memory is kept from then on
    (`keep_freed_memory`).
    """
    keep_freed_memory()
    before = torch.get_num_threads()
    flushed = sys.float_info.min / 2 == 0  # torch does not say
    torch.set_flush_denormal(True)
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    precision = matmul.fp32_precision
    try:
        torch.set_num_threads(threads)
        if _has_faster_float32():
            matmul.fp32_precision = "bf16"
        yield
    finally:
        torch.set_num_threads(before)
        matmul.fp32_precision = precision
        torch.set_flush_denormal(flushed)


def processor_features() -> dict[str, Any]:
    """What torch says of the processor; empty where it says nothing."""
    probe = getattr(torch.cpu, "get_capabilities", None)  # not in the oldest supported torch
    return {} if probe is None else dict(probe())


def _has_faster_float32() -> bool:
    """Whether allowing bfloat16 makes torch pick oneDNN, which is faster and still computes in float32 here.

    Where it is allowed torch gives float32 products to oneDNN in place of MKL, which does not use AVX-512 on
    AMD's processors. Without AMX oneDNN then computes in float32, as its errors show; with AMX, in
    bfloat16, which raw observations do not bear.
    """
    features = processor_features()
    return bool(features.get("avx512_bf16")) and not features.get("amx_bf16")


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
