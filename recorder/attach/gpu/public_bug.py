"""A public bug that nobody here planted: lightning-thunder 0.2.6, "Bad output with cudagraphs"
(github.com/Lightning-AI/lightning-thunder/issues/2658).

A decoder with a static KV cache is compiled by thunder, once plainly and once with its CUDAGraphTransform, and
greedily decodes from the same weights and first token. The public report says that the output is bad with the
transform and good without it.

    python public_bug.py --mode eager          # thunder without the transform
    python public_bug.py --mode graph          # with it

Needs lightning-thunder 0.2.6 and its few pure-Python needs (looseversion, lightning-utilities, optree, opt_einsum,
mpmath, dill). Under `twinstep attach -o RUN.twin -- python public_bug.py --mode graph` the Python package gives
the buffers their names.
"""

import argparse
import contextlib
import hashlib
import os

import thunder
import torch
from thunder.transforms.cudagraph import CUDAGraphTransform

WIDTH, HEADS, LAYERS, VOCABULARY, POSITIONS = 64, 4, 2, 256, 64


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = torch.nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = torch.nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x, keys, values, position, mask):
        q, k, v = self.qkv(x).split(WIDTH, dim=-1)
        keys.index_copy_(0, position, k)
        values.index_copy_(0, position, v)
        head = WIDTH // HEADS
        q = q.view(1, HEADS, head).transpose(0, 1)
        k = keys.view(POSITIONS, HEADS, head).permute(1, 2, 0)
        v = values.view(POSITIONS, HEADS, head).transpose(0, 1)
        weights = torch.softmax(torch.matmul(q, k) / head**0.5 + mask, dim=-1)
        x = x + self.out(torch.matmul(weights, v).transpose(0, 1).reshape(1, WIDTH))
        return x + self.down(torch.nn.functional.silu(self.up(x)))


class Decoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, token, position, mask, keys0, values0, keys1, values1):
        x = self.embedding(token)
        x = self.layers[0](x, keys0, values0, position, mask)
        x = self.layers[1](x, keys1, values1, position, mask)
        return self.head(x)


def recording(mode):
    """The twinstep recording under `twinstep attach`, else nothing."""
    if "TWINSTEP_ATTACH_OUT" not in os.environ:
        return contextlib.nullcontext()
    import twinstep

    return twinstep.record(mode=mode, model="public_bug.py")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["eager", "graph"], default="eager")
    parser.add_argument("--steps", type=int, default=16)
    arguments = parser.parse_args()

    torch.manual_seed(1)
    device = torch.device("cuda")
    model = Decoder().to(device).requires_grad_(False).eval()
    transforms = [CUDAGraphTransform()] if arguments.mode == "graph" else []
    step = thunder.jit(model, transforms=transforms)

    cache = {
        f"{name}{layer}": torch.zeros(POSITIONS, WIDTH, device=device)
        for layer in range(LAYERS)
        for name in ("keys", "values")
    }
    token = torch.tensor([7], device=device)
    position = torch.tensor([0], device=device)
    mask = torch.full((1, 1, POSITIONS), float("-inf"), device=device)
    logits = torch.zeros(1, VOCABULARY, device=device)

    said = []
    with recording(arguments.mode) as run:
        if run is not None:
            for name, buffer in {**cache, "token": token, "position": position, "mask": mask, "logits": logits}.items():
                run.watch(name, buffer)
        for _ in range(arguments.steps):
            mask[:, :, : int(position) + 1] = 0.0
            bracket = run.launch("forward") if run is not None else contextlib.nullcontext()
            with bracket:
                logits.copy_(step(token, position, mask, *cache.values()))
            token.copy_(logits.argmax(dim=-1))
            position += 1
            said.append(int(token))
            if run is not None:
                run.step()
    print("tokens", *said)
    print("digest", hashlib.sha256(logits.cpu().numpy().tobytes()).hexdigest()[:16])


if __name__ == "__main__":
    main()
