"""Arrays that only have `__cuda_array_interface__`, over a driver that takes the host's memory for the device's."""

import os
import subprocess
import sys
import textwrap

import twinstep

DRIVER = """
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
static int waited;
int cuCtxSynchronize(void) { waited = 1; return getenv("FAKE_BROKEN") ? 201 : 0; }
int cuMemcpyDtoH_v2(void *target, uint64_t source, size_t bytes) {
    if (!waited) return 999;
    memcpy(target, (void *)source, bytes);
    return 0;
}
int cuGetErrorString(int status, const char **text) { *text = "invalid device context"; return 0; }
"""

PROGRAM = """
    import sys
    import numpy as np, twinstep

    class Device:
        def __init__(self, array):
            self.array = array
            self.__cuda_array_interface__ = dict(
                shape=array.shape, typestr=array.dtype.str, data=(array.ctypes.data, False), version=3,
                strides=None if array.flags.c_contiguous else array.strides,
            )

    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays = dict(dense=base, turned=base.T, part=base[1:, ::2], back=base[::-1, ::-2], empty=base[:0],
                  double=base.astype(np.float64), one=np.array(5, np.int32))
    with twinstep.record(sys.argv[1]) as r:
        for name, array in arrays.items():
            r.watch(name, Device(array))
        base += 1
        r.step()
    trace = twinstep.open(sys.argv[1])
    for name, array in arrays.items():
        found = trace.buffer(name, 1)
        assert found.tobytes() == array.tobytes(), name
    assert trace.buffers[0].address == base.ctypes.data
    assert trace.buffer("double", 1).shape == (4, 6, 8) and trace.buffer("part", 1).shape == (3, 3)
"""


def run(tmp_path, code, **environment):
    (tmp_path / "driver.c").write_text(DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", tmp_path / "driver.c"], check=True)
    source = os.path.dirname(os.path.dirname(twinstep.__file__))
    return subprocess.run(
        [sys.executable, "-B", "-c", textwrap.dedent(code), tmp_path / "a.twin"],
        capture_output=True, text=True, timeout=60, check=False,
        env=dict(os.environ, PYTHONPATH=source, LD_LIBRARY_PATH=str(tmp_path), **environment),
    )  # fmt: skip


def test_dense_and_strided(tmp_path):
    done = run(tmp_path, PROGRAM)
    assert done.returncode == 0, done.stderr


def test_a_driver_that_fails_is_quoted(tmp_path):
    done = run(tmp_path, PROGRAM, FAKE_BROKEN="1")
    assert "TypeError: dense: CUDA memory cannot be copied: invalid device context" in done.stderr
