"""How this process uses the CPU and its memory while it trains."""

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
    """Set torch up for small float32 networks on `threads` threads; restore its settings at the end.

    Matrix products round differently inside this context. To be reproducible, a run must do everything
    inside it, from creating or loading its networks on. Denormal numbers count as 0 inside it. One setting
    stays in force: freed memory is kept from then on (see `keep_freed_memory`).
    """
    keep_freed_memory()
    before, dtype = torch.get_num_threads(), torch.get_default_dtype()
    flushed = sys.float_info.min / 2 == 0  # torch has no getter for this
    torch.set_flush_denormal(True)
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    precision = matmul.fp32_precision
    try:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
        if _has_faster_float32():
            matmul.fp32_precision = "bf16"
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_default_dtype(dtype)
        matmul.fp32_precision = precision
        torch.set_flush_denormal(flushed)


def cpu_features() -> dict[str, Any]:
    """The features that torch reports of this CPU; empty if it reports none."""
    probe = getattr(torch.cpu, "get_capabilities", None)  # not in the oldest supported torch
    return {} if probe is None else dict(probe())


def _has_faster_float32() -> bool:
    """Whether allowing bfloat16 makes float32 products faster here without making them less precise.

    If bfloat16 is allowed, torch gives float32 products to oneDNN instead of MKL, which does not use AVX-512
    on AMD's processors. Without AMX, oneDNN still computes them in float32, as their errors show. With AMX it
    would compute them in bfloat16, which is too coarse for raw observations.
    """
    features = cpu_features()
    return bool(features.get("avx512_bf16")) and not features.get("amx_bf16")


def keep_freed_memory() -> None:
    """Let this process keep up to 512 MiB of freed memory; does nothing if the C library is not glibc.

    The activations of an update are blocks of several megabytes. By default glibc may return these to the
    system and request them again, which costs a page fault every 4 KiB: up to a thousand faults an update.
    Source: mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
    mallopt(M_TRIM_THRESHOLD, KEPT)
