"""What recording costs a decode step at a real size: the shape of Qwen3 4B, one captured graph, batch 1.

    python overhead.py --twinstep twinstep --python ../../python/src

Starts itself attached and not attached in turns, and prints medians of µs a step and their ratio. The weights are
random numbers.

- `state`: the whole decode state is watched, KV cache included.
- `small`: all of it but the KV cache.
- `nothing`: attached, nothing watched: the price of the wrappers, in µs a launch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, FFN, VOCAB = 36, 2560, 32, 8, 128, 9728, 151936


def child(watch, positions, steps, rounds):
    """One process's µs a step: medians of rounds."""
    import torch
    import torch.nn.functional as F

    def weight(*shape):
        return torch.empty(*shape, dtype=torch.bfloat16, device="cuda").normal_(std=0.02)

    qkv = [weight((HEADS + 2 * KV_HEADS) * HEAD, HIDDEN) for _ in range(LAYERS)]
    out = [weight(HIDDEN, HEADS * HEAD) for _ in range(LAYERS)]
    gate_up = [weight(2 * FFN, HIDDEN) for _ in range(LAYERS)]
    down = [weight(HIDDEN, FFN) for _ in range(LAYERS)]
    table, head = weight(VOCAB, HIDDEN), weight(VOCAB, HIDDEN)
    norm = weight(HIDDEN)
    kv_cache = [weight(2, KV_HEADS, positions, HEAD).zero_() for _ in range(LAYERS)]
    last_token = torch.zeros(1, dtype=torch.int64, device="cuda")
    position = torch.zeros(1, dtype=torch.int64, device="cuda")
    hidden = weight(1, HIDDEN)
    logits = weight(1, VOCAB)
    everywhere = torch.arange(positions, device="cuda")

    def step():
        x = table[last_token]
        mask = (everywhere <= position)[None, None, None]
        for layer in range(LAYERS):
            y = F.rms_norm(x, (HIDDEN,), norm) @ qkv[layer].T
            q, k, v = y.view(-1, HEAD).split((HEADS, KV_HEADS, KV_HEADS))
            kv_cache[layer].index_copy_(2, position, torch.stack((k, v)).unsqueeze(2))
            keys, values = kv_cache[layer].unsqueeze(1)
            mixed = F.scaled_dot_product_attention(q[None, :, None], keys, values, mask, enable_gqa=True)
            x = x + mixed.reshape(1, -1) @ out[layer].T
            gate, up = (F.rms_norm(x, (HIDDEN,), norm) @ gate_up[layer].T).chunk(2, -1)
            x = x + (F.silu(gate) * up) @ down[layer].T
        hidden.copy_(F.rms_norm(x, (HIDDEN,), norm))
        logits.copy_(hidden @ head.T)
        last_token.copy_(logits.argmax(-1))
        position.add_(1).remainder_(positions)

    watched = {"last_token": last_token, "position": position, "hidden": hidden, "logits": logits}
    if watch == "state":
        watched |= {f"kv_cache.{layer}": cache for layer, cache in enumerate(kv_cache)}
    recording = None
    if watch in ("state", "small") and "TWINSTEP_ATTACH_OUT" in os.environ:
        import twinstep

        recording = twinstep.record(None, mode="graph")
        for name, tensor in watched.items():
            recording.watch(name, tensor)
    with torch.no_grad():
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        took, called = [], []
        for _ in range(rounds + 1):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(steps):
                graph.replay()
                if recording:
                    recording.step()
            called.append((time.perf_counter() - begin) / steps * 1e6)
            torch.cuda.synchronize()
            took.append((time.perf_counter() - begin) / steps * 1e6)
    watched_bytes = sum(t.numel() * t.element_size() for t in watched.values()) if recording else 0
    result = {"step": statistics.median(took[1:]), "call": statistics.median(called[1:]), "watched": watched_bytes}
    print(json.dumps(result), flush=True)


def empty(launches, rounds):
    """µs a launch of a graph with one small node: the wrapper's price in the open."""
    import torch

    x = torch.zeros(1, device="cuda")
    x.add_(1)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x.add_(1)
    took = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(launches):
            graph.replay()
        torch.cuda.synchronize()
        took.append((time.perf_counter() - begin) / launches * 1e6)
    print(json.dumps({"step": statistics.median(took[1:]), "call": 0, "watched": 0}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twinstep", default="twinstep")
    parser.add_argument("--python", default="", help="folder of the Python package")
    parser.add_argument("--out", default=".", help="folder for traces, removed again")
    parser.add_argument("--positions", type=int, default=2048, help="of the KV cache: 2048 are 302 MB")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cases", nargs="*", default=["nothing", "small", "state"])
    parser.add_argument("--child")
    options = parser.parse_args()
    if options.child == "nothing":
        return empty(2000, options.rounds)
    if options.child:
        return child(options.child, options.positions, options.steps, options.rounds)

    def run(case, attached):
        environment = dict(os.environ, PYTHONPATH=options.python)
        command = [sys.executable, os.path.abspath(__file__), "--child", case]
        for name in ("positions", "steps", "rounds"):
            command += [f"--{name}", str(getattr(options, name))]
        trace = os.path.join(options.out, f"overhead.{case}.twin")
        if attached:
            command = [options.twinstep, "attach", "--force", "-o", trace, "--", *command]
            if case == "nothing":
                environment["TWINSTEP_ATTACH_AUTO_BYTES"] = "0"
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=150)
        size = 0
        if attached and os.path.exists(trace):
            size = os.path.getsize(trace)
            os.remove(trace)
        return json.loads(done.stdout.splitlines()[-1]) | {"file": size}

    for case in options.cases:
        plain, attached = [], []
        for _ in range(options.turns):
            plain.append(run(case, False))
            attached.append(run(case, True))

        def median(results, key):
            return statistics.median(result[key] for result in results)

        before, after = median(plain, "step"), median(attached, "step")
        steps = options.steps * (options.rounds + 1)
        print(
            f"{case}: {before:.2f} µs a step not attached, {after:.2f} attached: {after - before:+.2f} µs, "
            f"ratio {after / before:.4f}; the call itself {median(plain, 'call'):.2f} and {median(attached, 'call'):.2f}; "
            f"{median(attached, 'watched') / 1e6:.1f} MB watched, {median(attached, 'file') / 1e6:.1f} MB of file "
            f"for {steps} steps; each {[round(p['step'], 1) for p in plain]} {[round(a['step'], 1) for a in attached]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
