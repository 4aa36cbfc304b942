"""Copies device memory to the host through the CUDA driver, for arrays that are not PyTorch's."""

from __future__ import annotations

import ctypes

import numpy as np

from .errors import TraceError


def copy_to_host(address: int, count: int) -> np.ndarray:
    """``count`` bytes of device memory at ``address`` as ``uint8``.

    Waits for all work of the current context first. Raises :class:`TraceError` where there is no
    driver, no context, or the memory is not the device's.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise TraceError("an array is in CUDA memory, and there is no CUDA driver to copy it") from None
    out = np.empty(count, np.uint8)
    status = driver.cuCtxSynchronize()
    if status == 0:
        target, source = ctypes.c_void_p(out.ctypes.data), ctypes.c_uint64(address)
        status = driver.cuMemcpyDtoH_v2(target, source, ctypes.c_size_t(count))
    if status:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(status, ctypes.byref(text))
        raise TraceError(f"CUDA memory cannot be copied: {(text.value or b'error %d' % status).decode()}")
    return out
