"""Reads a .twin trace from FORMAT.md alone, without any code of this crate.

It knows nothing of the index: it walks the frames up to the last commit, checks every checksum
and every chunk hash, and prints what it found as lines that the Rust test compares with its own
view. Standard library only.
"""

import struct
import sys
import zlib

MASK = (1 << 64) - 1
KEYS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)


def mix64(x):
    x ^= x >> 33
    x = x * 0xFF51AFD7ED558CCD & MASK
    x ^= x >> 33
    x = x * 0xC4CEB9FE1A85EC53 & MASK
    return x ^ (x >> 33)


def chunk_hash(data):
    padded = data + bytes(-len(data) % 4)
    words = struct.unpack("<%dI" % (len(padded) // 4), padded)
    halves = []
    for lane in (0, 1):
        total = sum(mix64(w ^ (i << 32) ^ KEYS[lane]) for i, w in enumerate(words)) & MASK
        length = len(data) * 0x9FB21C651E98DF25 & MASK
        halves.append(mix64(total ^ length ^ KEYS[1 - lane]))
    return struct.pack("<QQ", *halves)


class Decoder:
    """The record encoding: fixed-width little-endian integers, u64 counts, u32 variants."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data), "record ends early"
        self.at += count
        return self.data[self.at - count : self.at]

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def i32(self):
        return struct.unpack("<i", self.take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def bytes(self):
        return self.take(self.u64())

    def string(self):
        return self.bytes().decode("utf-8")

    def list(self, item):
        return [item() for _ in range(self.u64())]

    def option(self, item):
        tag = self.u8()
        assert tag in (0, 1), "option tag"
        return item() if tag else None

    def tuple(self, *items):
        return tuple(item() for item in items)

    def end(self):
        assert self.at == len(self.data), "bytes left over"

    # Records, field by field as FORMAT.md lists them.

    def view(self):
        return {
            "name": self.string(), "buffer": self.u32(), "offset": self.u64(),
            "shape": self.list(self.u64), "strides": self.list(self.u64),
            "dtype": self.u32(), "access": self.u32(),
        }

    def scalar(self):
        name, variant = self.string(), self.u32()
        return name, (self.u32, self.i32, self.u64, self.u32)[variant]()

    def item(self):
        variant = self.u32()
        if variant == 0:
            return ("launch", self.string(), self.u32(), self.u32(), self.string(), self.u32(),
                    self.list(self.view), self.list(self.scalar))
        if variant == 1:
            return ("graph launch", self.u32(), self.u32())
        if variant in (2, 3, 4, 5):
            return (("capture", "destroy graph", "allocate", "free")[variant - 2], self.u32())
        if variant == 6:
            triple = lambda: self.tuple(self.u32, self.u32, self.u32)
            return ("opaque", self.string(), self.u32(), self.u32(), triple(), triple(), triple(),
                    self.u32(), self.list(self.bytes),
                    self.list(lambda: self.tuple(self.u32, self.u32, self.view)))
        if variant == 7:
            return ("copy", self.u32(), self.option(self.view), self.option(self.view),
                    self.u64(), self.u64(), self.u64())
        if variant == 8:
            return ("fill", self.u32(), self.option(self.view), self.u64(), self.bytes(), self.u64())
        if variant in (9, 10):
            return (("event record", "event wait")[variant - 9], self.u32(), self.u32())
        if variant in (11, 12):
            return (("gap", "mark")[variant - 11], self.string())
        raise AssertionError("item variant %d" % variant)

    def program(self):
        return self.list(self.item)

    def contents(self):
        return (self.list(lambda: self.tuple(self.string, self.string)), self.u32(), self.take(32))

    def buffer(self):
        return {
            "name": self.string(), "generation": self.u32(), "dtype": self.u32(),
            "shape": self.list(self.u64), "role": self.u32(), "bytes": self.u64(),
            "chunk_bytes": self.u32(), "address": self.option(self.u64),
            "contents": self.option(self.contents),
        }

    def graph(self):
        return (self.u32(), self.string(), self.u32(),
                self.list(lambda: self.tuple(self.u32, self.u32)), (self.u32(), self.u32()))

    def request(self):
        return (self.u32(), self.string(), self.list(self.u32), self.u32())

    def step(self):
        write = lambda: self.tuple(self.u32, self.u32, self.u64, self.bytes)
        read = lambda: self.tuple(self.u32, self.u32, self.u64, self.bytes, self.string)
        return {
            "kind": self.u32(), "request": self.u32(), "step": self.u32(), "rank": self.u32(),
            "program": self.u32(), "host_writes": self.list(write), "host_reads": self.list(read),
            "points": self.list(lambda: self.tuple(self.string, self.u32, self.u32)),
        }

    def run(self):
        device = lambda: [self.string() for _ in range(5)]
        return {
            "tool": self.string(), "mode": self.string(), "device": device(), "model": self.string(),
            "model_source": self.string(), "model_sha256": self.take(32),
            "weights_dtype": self.string(), "kv_dtype": self.string(), "profile": self.string(),
            "prompt": self.string(), "rows": self.u32(),
            "sampling": (self.u32(), self.u32(), self.u32(), self.u64()),
            "sample_rate": self.u32(), "notes": self.list(lambda: self.tuple(self.string, self.string)),
        }


class Trace:
    def __init__(self, data):
        assert data[:8] == b"\x89TWIN\r\n\x1a", "signature"
        major, minor, header_bytes = struct.unpack_from("<HHI", data, 8)
        assert major == 0 and minor in (1, 2) and header_bytes == 64, "version"
        assert zlib.crc32(data[:60]) == struct.unpack_from("<I", data, 60)[0], "header checksum"
        committed, pending = [], []
        at, start, sequence, previous = 64, 0, 0, 0
        while at + 16 <= len(data):
            kind, flags, crc, length = struct.unpack_from("<HHIQ", data, at)
            end = at + 16 + length + -length % 8
            if end > len(data):
                break
            payload = data[at + 16 : at + 16 + length]
            if zlib.crc32(payload, zlib.crc32(data[at : at + 4] + data[at + 8 : at + 16])) != crc:
                break
            if kind == 9:
                fields = struct.unpack("<8sQQQII", payload)
                checksum = zlib.crc32(data[start:at])
                if fields != (b"TWCOMMIT", sequence, start, at, checksum, previous):
                    break
                committed += pending
                pending, start, sequence, previous = [], end, sequence + 1, checksum
            else:
                pending.append((kind, at, payload))
            at = end
        self.chunks, self.snapshots, self.programs = [], [], []
        self.buffers, self.graphs, self.requests, self.steps = [], [], [], []
        self.state, self.run = {}, None
        for kind, at, payload in committed:
            self.enter(kind, payload)

    def enter(self, kind, payload):
        lists = {2: "buffers", 3: "programs", 4: "graphs", 5: "requests", 8: "steps"}
        decoder = Decoder(payload)
        if kind == 1:
            self.run = decoder.run()
            decoder.end()
        elif kind in lists:
            record = getattr(decoder, lists[kind][:-1])()
            decoder.end()
            getattr(self, lists[kind]).append(record)
        elif kind == 6:
            count = decoder.u32()
            decoder.u32()
            entries = [(decoder.take(16), decoder.u32(), decoder.u32()) for _ in range(count)]
            for wanted, length, _ in entries:
                content = decoder.take(length)
                assert not any(decoder.take(-length % 8)), "chunk padding"
                assert chunk_hash(content) == wanted, "chunk hash"
                self.chunks.append(content)
            decoder.end()
        elif kind == 7:
            number, covered, changes, audits = (decoder.u32() for _ in range(4))
            assert number == len(self.snapshots), "snapshot number"
            covered = [decoder.u32() for _ in range(covered)]
            decoder.take(-4 * len(covered) % 8)
            for _ in range(changes):
                buffer, content, chunk = decoder.u32(), decoder.u32(), decoder.u64()
                self.state[buffer, chunk] = content
            audits = [(decoder.u32(), decoder.u32(), decoder.u64(), decoder.u64()) for _ in range(audits)]
            decoder.end()
            self.snapshots.append({b: self.content(b) for b in covered})

    def content(self, number):
        buffer = self.buffers[number]
        chunks = -(-buffer["bytes"] // buffer["chunk_bytes"])
        whole = b"".join(self.chunks[self.state[number, chunk]] for chunk in range(chunks))
        assert len(whole) == buffer["bytes"], "buffer length"
        return whole


def main(path):
    with open(path, "rb") as file:
        trace = Trace(file.read())
    print("run", trace.run["tool"], trace.run["mode"], trace.run["prompt"])
    for buffer in trace.buffers:
        print("buffer", buffer["name"], buffer["generation"], buffer["bytes"], buffer["address"])
    for program in trace.programs:
        print("program", " ".join(item[0] for item in program))
    for graph in trace.graphs:
        print("graph", graph[0], graph[1], graph[2], len(graph[3]))
    for request in trace.requests:
        print("request", request[0], request[1], len(request[2]))
    for step in trace.steps:
        points = " ".join("%s=%d" % (name, snapshot) for name, _, snapshot in step["points"])
        print("step", step["request"], step["step"], step["program"],
              len(step["host_writes"]), len(step["host_reads"]), points)
    for number, snapshot in enumerate(trace.snapshots):
        for buffer, content in sorted(snapshot.items()):
            print("snapshot", number, buffer, zlib.crc32(content))


if __name__ == "__main__":
    main(sys.argv[1])
