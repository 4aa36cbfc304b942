"""A captured decode loop as PyTorch engines write it, knowing nothing of twinstep.

A small transformer talker feeds back the codes that it chose. Each step attends to a KV cache, and writes the next
codes, the position and the cache in place, so that a captured graph goes on from where it was. Prints a digest of
everything that it computed.

    python decode_loop.py --mode graph
    twinstep attach -o graph.twin -- python decode_loop.py --mode graph

`--mode`: `eager`; `graph`: the whole step from one captured graph; `piecewise`: norm and MLP of each layer from a
graph of its own, captured when they are first needed.

`--fault`: a mistake where real engines make it.
- `unlaunched` (piecewise): the first use captures and returns the graph's outputs, without having launched it.
- `rebound` (graph): a new request makes a new feedback buffer; the graph goes on reading the old one.
- `baked` (graph): the last position to attend to is a Python number, and the graph is captured at the first decode
  step. Eager, the same code is right.
"""

import argparse
import hashlib

import torch
import torch.nn.functional as F

HIDDEN, HEADS, FFN = 256, 4, 512
CODEBOOKS, CODES, BOC = 4, 512, 511


class Talker:
    """Weights, decode state, and one decode step over them."""

    def __init__(self, mode, fault, layers=4, positions=256, device="cuda"):
        self.mode, self.fault, self.layers, self.device = mode, fault, layers, device
        make = torch.Generator().manual_seed(7)

        def weight(*shape):
            return (torch.randn(*shape, generator=make) / shape[-1] ** 0.5).to(device)

        self.embeddings = weight(CODEBOOKS * CODES, HIDDEN) * 8
        self.place = weight(positions, HIDDEN) * 8
        self.qkv = [weight(3 * HIDDEN, HIDDEN) for _ in range(layers)]
        self.out = [weight(HIDDEN, HIDDEN) for _ in range(layers)]
        self.up = [weight(FFN, HIDDEN) for _ in range(layers)]
        self.down = [weight(HIDDEN, FFN) for _ in range(layers)]
        self.heads = weight(CODEBOOKS * CODES, HIDDEN)
        self.offsets = torch.arange(CODEBOOKS, device=device) * CODES
        self.all_positions = torch.arange(positions, device=device)
        # Decode state.
        self.last_codes = torch.full((CODEBOOKS,), BOC, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.kv_cache = [torch.zeros(2, positions, HEADS, HIDDEN // HEADS, device=device) for _ in range(layers)]
        self.logits = torch.zeros(CODEBOOKS, CODES, device=device)
        # Captured parts.
        self.graph = None
        self.mlp_graphs = [None] * layers
        self.mlp_in = [torch.zeros(1, HIDDEN, device=device) for _ in range(layers)]
        self.mlp_out = [None] * layers
        self.host_position = 0

    def reset(self):
        """A new request begins."""
        if self.fault == "rebound":
            self.last_codes = torch.full((CODEBOOKS,), BOC, device=self.device)
        else:
            self.last_codes.fill_(BOC)
        self.position.zero_()
        self.host_position = 0
        for cache in self.kv_cache:
            cache.zero_()

    def mlp(self, layer, x):
        y = F.rms_norm(x, (HIDDEN,))
        return x + F.silu(y @ self.up[layer].T) @ self.down[layer].T

    def captured_mlp(self, layer, x):
        """Norm and MLP of a layer from its graph, which the first call captures."""
        self.mlp_in[layer].copy_(x)
        if self.mlp_graphs[layer] is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.mlp_out[layer] = self.mlp(layer, self.mlp_in[layer])
            self.mlp_graphs[layer] = graph
            if self.fault == "unlaunched":
                return self.mlp_out[layer]
        self.mlp_graphs[layer].replay()
        return self.mlp_out[layer]

    def attention(self, layer, x):
        q, k, v = (F.rms_norm(x, (HIDDEN,)) @ self.qkv[layer].T).view(3, HEADS, HIDDEN // HEADS)
        cache = self.kv_cache[layer]
        cache.index_copy_(1, self.position, torch.stack((k, v)).unsqueeze(1))
        keys, values = cache[0], cache[1]
        scores = torch.einsum("hd,phd->hp", q, keys)
        if self.fault == "baked":
            scores = scores.masked_fill(self.all_positions > self.host_position, float("-inf"))
        else:
            scores = scores.masked_fill(self.all_positions > self.position, float("-inf"))
        mixed = torch.einsum("hp,phd->hd", scores.softmax(-1), values)
        return x + mixed.reshape(1, HIDDEN) @ self.out[layer].T

    def step(self, piecewise=False):
        """One position: the codes before it in, the next codes out; all state in place."""
        x = self.embeddings[self.last_codes + self.offsets].sum(0, keepdim=True) + self.place[self.position]
        for layer in range(self.layers):
            x = self.attention(layer, x)
            x = self.captured_mlp(layer, x) if piecewise else self.mlp(layer, x)
        self.logits.copy_((F.rms_norm(x, (HIDDEN,)) @ self.heads.T).view(CODEBOOKS, CODES))
        self.last_codes.copy_(self.logits[:, :BOC].argmax(-1))
        self.position.add_(1)

    def warm_up(self):
        """Libraries choose kernels and workspaces; in graph mode, the capture."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        if self.mode == "graph" and self.fault != "baked":
            self.capture()

    def capture(self):
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()

    def prefill(self, prompt):
        """The prompt's codes one by one, eager: the decode step's own arithmetic."""
        for code in prompt:
            self.last_codes.fill_(code)
            self.step()
            self.host_position += 1

    def decode(self):
        if self.mode == "graph":
            if self.graph is None:
                self.capture()
            self.graph.replay()
        else:
            self.step(piecewise=self.mode == "piecewise")
        self.host_position += 1


def requests(steps):
    """Two of them, so that the second meets what the first has captured: id, prompt, decode steps."""
    return [("first", [3, 14, 15], steps // 2), ("second", [92, 6], steps - steps // 2)]


def digest(parts):
    """Of all bytes, in order."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part.cpu().numpy().tobytes())
    return hasher.hexdigest()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["eager", "graph", "piecewise"], default="graph")
    parser.add_argument("--fault", choices=["none", "unlaunched", "rebound", "baked"], default="none")
    parser.add_argument("--steps", type=int, default=200, help="decode steps in all")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--positions", type=int, default=256, help="of the KV cache")
    return parser


@torch.no_grad()
def main():
    options = arguments().parse_args()
    talker = Talker(options.mode, options.fault, options.layers, options.positions)
    talker.warm_up()
    results = []
    for _, prompt, steps in requests(options.steps):
        talker.reset()
        talker.prefill(prompt)
        for _ in range(steps):
            talker.decode()
            results += [talker.last_codes.clone(), talker.logits.clone()]
    results += talker.kv_cache
    torch.cuda.synchronize()
    print(f"{len(results)} results, digest {digest(results)}")


if __name__ == "__main__":
    main()
