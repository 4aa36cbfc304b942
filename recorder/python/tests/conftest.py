"""What the tests share: the repository, the `twinstep` binary, and traces made at random."""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]

NAMED = {"f32": "<f4", "f16": "<f2", "bf16": "<u2", "i64": "<i8", "i32": "<i4",
         "u32": "<u4", "u64": "<u8", "u8": "|u1", "bool": "|b1"}  # fmt: skip


def _binary():
    named = os.environ.get("TWINSTEP_BINARY")
    if named:
        return pathlib.Path(named)
    built = [ROOT / "target" / profile / "twinstep" for profile in ("debug", "release")]
    return next((path for path in built if path.exists()), None)


class Twinstep:
    """The command line."""

    def __init__(self, path):
        self.path = str(path)

    def run(self, *arguments, status=0):
        done = subprocess.run(
            [self.path, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def json(self, *arguments, status=0):
        return json.loads(self.run(*arguments, "--json", status=status))


@pytest.fixture(scope="session")
def twinstep_binary():
    path = _binary()
    if path is None:
        assert "CI" not in os.environ, "CI must build twinstep first, or say TWINSTEP_BINARY"
        pytest.skip("no twinstep binary: `cargo build`, or say TWINSTEP_BINARY")
    return Twinstep(path)


def fill(random, dtype, shape):
    """Any bits that the type can have, as the array that a reader gives."""
    kind = np.dtype(NAMED[dtype])
    count = int(np.prod(shape, dtype=np.int64))
    if dtype == "bool":
        return random.integers(0, 2, shape).astype(np.bool_)
    data = random.integers(0, 256, count * kind.itemsize, dtype=np.uint8)
    return data.view(kind).reshape(shape)


def same_bits(a, b):
    """NaNs included."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return a.shape == b.shape and a.dtype.itemsize == b.dtype.itemsize and a.tobytes() == b.tobytes()
