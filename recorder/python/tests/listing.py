"""Prints all that a trace holds, a line each; a Rust test prints the same and compares."""

import sys

import twinstep
from twinstep.hash import chunk_hash


def lines(trace):
    yield f"run {trace.info.tool} {trace.info.mode} {trace.info.prompt} {trace.info.model_sha256.hex()}"
    for b in trace.buffers:
        shape = "x".join(map(str, b.shape))
        yield f"buffer {b.label} {b.role} {b.dtype} {shape} {b.bytes} {b.chunk_bytes} {b.address or 0}"
    for r in trace.requests:
        yield f"request {r.request} {r.text} {r.prompt} {r.row}"
    for g in trace.graphs:
        yield f"graph {g.id} {g.label} {g.program} {len(g.edges)} {g.captured_at[0]}:{g.captured_at[1]}"
    for s in trace.records:
        points = " ".join(f"{p.point}@{p.position}={p.snapshot}" for p in s.points)
        written = sum(len(w.bytes) for w in s.host_writes)
        read = "".join(r.decision for r in s.host_reads)
        yield f"step {s.kind} {s.request}:{s.step} {s.rank} {len(trace.items(s))} {written} {read} {points}"
    for snapshot in range(trace.snapshot_count):
        for number in trace.covered(snapshot):
            values = trace.read(snapshot, number)
            yield f"snapshot {snapshot} {number} {chunk_hash(values.tobytes()).hex()}"


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    for path in sys.argv[1:]:
        with twinstep.open(path) as opened:
            for line in lines(opened):
                print(line)
