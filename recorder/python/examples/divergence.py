"""A tiny decode loop in NumPy, eager and 'captured', recorded so that `twinstep diff` finds where they part.

    python divergence.py eager eager.twin
    python divergence.py graph graph.twin
    twinstep diff eager.twin graph.twin

Each step embeds the codes of the last one, updates a hidden state and picks the next codes. The
captured form froze its arguments as a CUDA graph does: it goes on reading the buffer that held
the seed codes at capture, while the engine has moved the feedback to another one.
"""

import sys

import numpy as np

import twinstep

CODEBOOKS, VOCABULARY, WIDTH = 4, 64, 32
SEED_CODE = 63


class Engine:
    def __init__(self) -> None:
        random = np.random.default_rng(7)
        self.embedding = random.standard_normal((CODEBOOKS, VOCABULARY, WIDTH)).astype(np.float32)
        self.mix = random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / WIDTH**0.5
        self.head = random.standard_normal((CODEBOOKS, WIDTH, VOCABULARY)).astype(np.float32)
        self.last_codes = np.full(CODEBOOKS, SEED_CODE, np.int64)
        self.hidden = np.zeros(WIDTH, np.float32)
        self.logits = np.zeros((CODEBOOKS, VOCABULARY), np.float32)

    def forward(self, last_codes: np.ndarray) -> None:
        """What a step launches, reading the codes from the buffer that it was given."""
        embedded = self.embedding[np.arange(CODEBOOKS), last_codes].sum(axis=0)
        self.hidden[...] = np.tanh(self.hidden @ self.mix + embedded)
        self.logits[...] = np.einsum("w,cwv->cv", self.hidden, self.head)

    def feed_back(self) -> None:
        """The host's part: the next codes, in a new buffer. This is the mistake under capture."""
        self.last_codes = self.logits.argmax(axis=1)

    def capture(self):
        """A step with its arguments frozen as they are now."""
        frozen = self.last_codes
        return lambda: self.forward(frozen)


def run(mode: str, path: str, steps: int = 6) -> None:
    engine = Engine()
    replay = engine.capture()
    with twinstep.record(path, mode=mode, model="example", prompt="hello", force=True) as r:
        r.watch_module(engine, "hidden")
        r.watch_module(engine, "logits", role="output")
        r.watch_module(engine, "last_codes")
        with r.warmup("dummy run"):
            replay()
            r.step()
            engine.hidden[...] = 0
            engine.logits[...] = 0
        r.request("example-1", prompt=[1, 2, 3])
        for _ in range(steps):
            with r.launch("forward"):
                if mode == "graph":
                    replay()
                else:
                    engine.forward(engine.last_codes)
            engine.feed_back()
            r.step()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("eager", "graph"):
        sys.exit("usage: divergence.py eager|graph FILE.twin")
    run(sys.argv[1], sys.argv[2])
