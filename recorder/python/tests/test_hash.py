"""The chunk hash against FORMAT.md's vectors and its definition."""

import re

import numpy as np
import pytest
from conftest import ROOT

from twinstep.hash import _BLOCK_WORDS, chunk_hash, chunk_hashes, hash_each

MASK = (1 << 64) - 1
KEYS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)


def mix64(x):
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x ^= x >> 33
        x = x * factor & MASK
    return x ^ (x >> 33)


def defined(data):
    """The definition, word by word."""
    words = data + bytes(-len(data) % 4)
    words = [int.from_bytes(words[i : i + 4], "little") for i in range(0, len(words), 4)]
    out = b""
    for lane in (0, 1):
        total = sum(mix64(w ^ (i << 32) ^ KEYS[lane]) for i, w in enumerate(words)) & MASK
        length = len(data) * 0x9FB21C651E98DF25 & MASK
        out += mix64(total ^ length ^ KEYS[1 - lane]).to_bytes(8, "little")
    return out


def test_vectors_of_the_format():
    text = (ROOT / "traces" / "FORMAT.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| (.+?) \| `([0-9a-f]{32})` \|$", text, re.M))
    inputs = {
        "none": b"",
        "`00`": bytes(1),
        "`00 00 00 00`": bytes(4),
        "ASCII `twinstep`": b"twinstep",
        "ASCII `twinstep!`": b"twinstep!",
        "4096 times `A5`": b"\xa5" * 4096,
        "4096 bytes, byte i is i mod 251": bytes(i % 251 for i in range(4096)),
    }
    assert table.keys() == inputs.keys()
    for name, data in inputs.items():
        assert chunk_hash(data).hex() == table[name], name


@pytest.mark.parametrize("seed", range(4))
def test_every_form_is_the_definition(seed):
    random = np.random.default_rng(seed)
    for _ in range(12):
        size = int(random.integers(1, 3000))
        data = random.integers(0, 256, size, dtype=np.uint8)
        chunk = int(2 ** random.integers(6, 12))
        due = [defined(data[i : i + chunk].tobytes()) for i in range(0, size, chunk)]
        assert [row.tobytes() for row in chunk_hashes(data, chunk)] == due
        assert chunk_hash(data.tobytes()) == defined(data.tobytes())
    chunks = [random.integers(0, 256, int(n), dtype=np.uint8) for n in random.integers(1, 400, 30)]
    assert [row.tobytes() for row in hash_each(chunks)] == [defined(c.tobytes()) for c in chunks]
    assert [row.tobytes() for row in hash_each(chunks[:1])] == [defined(chunks[0].tobytes())]


def test_chunks_longer_than_a_block():
    data = np.random.default_rng(5).integers(0, 256, _BLOCK_WORDS * 4 * 2 + 13, dtype=np.uint8)
    due = defined(data.tobytes())
    assert chunk_hash(data) == due
    assert chunk_hashes(data, 1 << 20).tobytes() == due
    assert [row.tobytes() for row in hash_each([data, data[:5]])] == [due, defined(data[:5].tobytes())]
    longer = np.concatenate([data, data])[: 1 << 18]
    assert chunk_hashes(longer, 1 << 18).tobytes() == defined(longer.tobytes())
