"""A decode loop on two cards: each rank has half of every MLP, and an all-reduce in the captured step joins them.

    twinstep attach -o graph.twin -- python two_cards.py --mode graph
    twinstep diff graph.rank0.twin eager.rank0.twin

`--fault`: what goes wrong, on rank 1 alone, when the second request begins.
- `rebound`: a new feedback buffer; the graph goes on reading the old one.
- `baked`: the position is a Python number in the graph.
"""

import argparse
import contextlib
import multiprocessing
import os
import socket
import sys

HIDDEN, FFN, LAYERS, CODES, POSITIONS = 256, 1024, 3, 512, 64
RANKS = 2


def rank(number, mode, fault, steps, port):
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    import twinstep
    from decode_loop import digest

    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.cuda.set_device(number)
    dist.init_process_group("nccl", device_id=torch.device("cuda", number))
    make = torch.Generator().manual_seed(11)

    def weight(*shape):
        return (torch.randn(*shape, generator=make) / shape[-1] ** 0.5).cuda()

    half = slice(number * FFN // RANKS, (number + 1) * FFN // RANKS)
    table, place, head = weight(CODES, HIDDEN) * 8, weight(POSITIONS, HIDDEN) * 8, weight(CODES, HIDDEN)
    up = [weight(FFN, HIDDEN)[half].contiguous() for _ in range(LAYERS)]
    down = [weight(HIDDEN, FFN)[:, half].contiguous() for _ in range(LAYERS)]
    mixed = torch.zeros(POSITIONS, HIDDEN, device="cuda")
    logits = torch.zeros(CODES, device="cuda")
    state = {"last_code": torch.zeros(1, dtype=torch.int64, device="cuda")}
    position = torch.zeros(1, dtype=torch.int64, device="cuda")
    host_position = 0
    fault = fault if number == 1 else "none"

    def step():
        x = table[state["last_code"]]
        x = x + (place[host_position] if fault == "baked" else place[position])
        mixed.index_copy_(0, position, x)
        x = x + mixed.mean(0)
        for layer in range(LAYERS):
            part = F.silu(F.rms_norm(x, (HIDDEN,)) @ up[layer].T) @ down[layer].T
            dist.all_reduce(part)
            x = x + part
        logits.copy_((F.rms_norm(x, (HIDDEN,)) @ head.T)[0])
        state["last_code"].copy_(logits.argmax(-1, keepdim=True))
        position.add_(1)

    results, graph = [], None
    recording = None
    if "TWINSTEP_ATTACH_OUT" in os.environ:
        recording = twinstep.record(None, mode=mode, model="two_cards.py")
        recording.watch("last_code", lambda: state["last_code"])
        recording.watch("position", position)
        recording.watch("mixed", mixed)
        recording.watch("logits", logits, role="output")

    def bracket(name, *arguments):
        return getattr(recording, name)(*arguments) if recording else contextlib.nullcontext()

    with torch.no_grad(), recording or contextlib.nullcontext():
        with bracket("warmup", "warm-up and capture"):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):
                    step()
            torch.cuda.current_stream().wait_stream(side)
            torch.cuda.synchronize()
            if mode == "graph":
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    step()
        for name, first in (("first", 3), ("second", 14)):
            if recording:
                recording.request(name, prompt=[first])
            if fault == "rebound":
                state["last_code"] = torch.zeros(1, dtype=torch.int64, device="cuda")
            state["last_code"].fill_(first)
            position.zero_()
            mixed.zero_()
            for host_position in range(steps // 2):
                with bracket("launch", "forward"):
                    graph.replay() if graph else step()
                results += [state["last_code"].clone(), logits.clone()]
                if recording:
                    recording.step()
        torch.cuda.synchronize()
    # One write: the ranks share the terminal.
    os.write(1, f"rank {number}: {digest([*results, mixed])}\n".encode())
    # The communicator waits for graphs that hold its work.
    del graph
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["eager", "graph"], default="graph")
    parser.add_argument("--fault", choices=["none", "rebound", "baked"], default="none")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    ranks = []
    for n in range(RANKS):
        os.environ["RANK"] = str(n)
        ranks.append(context.Process(target=rank, args=(n, options.mode, options.fault, options.steps, port)))
        ranks[-1].start()
    for one in ranks:
        one.join()
    sys.exit(max(abs(one.exitcode) for one in ranks))
