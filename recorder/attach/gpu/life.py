"""What happens to processes and graphs in real engines: one case a run, each a decode loop with something else.

    twinstep attach -o run.twin -- python life.py recapture
"""

import argparse
import multiprocessing
import os
import signal
import sys
import time

import torch
from decode_loop import Talker, digest


def loop(steps=20, mode="graph"):
    talker = Talker(mode, "none")
    talker.warm_up()
    talker.reset()
    talker.prefill([1, 2])
    for _ in range(steps):
        talker.decode()
    torch.cuda.synchronize()
    return talker


def recapture():
    """Graphs captured, launched and destroyed, over and over."""
    talker = loop()
    for _ in range(5):
        talker.graph.reset()
        talker.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(talker.graph):
            talker.step()
        for _ in range(4):
            talker.decode()
    print(digest([talker.logits]))


def streams():
    """Two graphs on two streams at once; both read one buffer that a third graph writes."""
    shared = torch.zeros(4096, device="cuda")
    outs = [torch.zeros(4096, device="cuda") for _ in range(2)]
    side = [torch.cuda.Stream() for _ in range(2)]
    write, reads = torch.cuda.CUDAGraph(), [torch.cuda.CUDAGraph() for _ in range(2)]
    with torch.cuda.graph(write):
        shared.mul_(0.5).add_(1)
    for n in range(2):
        with torch.cuda.graph(reads[n], stream=side[n]):
            outs[n].add_(shared * (n + 1))
    for _ in range(50):
        write.replay()
        for n in range(2):
            side[n].wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side[n]):
                reads[n].replay()
        for n in range(2):
            torch.cuda.current_stream().wait_stream(side[n])
    torch.cuda.synchronize()
    print(digest([shared, *outs]))


def free():
    """Memory under a graph given back to the driver and used again by another."""
    for round in range(4):
        big = torch.ones(8 << 20, device="cuda") * round
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            big.add_(1)
        graph.replay()
        graph.replay()
        print(digest([big[:16]]))
        del graph, big
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def exception():
    """An exception in mid-run that nobody catches."""
    talker = loop()
    talker.decode()
    raise RuntimeError("in mid-run")


def fork():
    """A child that never touches CUDA, and one that tries to."""
    talker = loop()
    for tries in (False, True):
        child = os.fork()
        if child == 0:
            if tries:
                try:
                    torch.zeros(1, device="cuda")
                except RuntimeError as error:
                    print("child:", str(error).splitlines()[0], flush=True)
            os._exit(0)
        print("child exited with", os.waitpid(child, 0)[1])
        talker.decode()
    print(digest([talker.logits]))


def os_exit():
    """Leaves without any clean-up."""
    talker = loop()
    talker.decode()
    os._exit(3)


def sigkill():
    """Killed in mid-run, a second after it began to decode."""
    talker = loop()
    for _ in range(100):
        talker.decode()
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def rank(number):
    os.environ["RANK"] = str(number)
    talker = loop()
    print(number, digest([talker.logits]))


def processes():
    """Two ranks started by a parent that uses no CUDA itself."""
    context = multiprocessing.get_context("spawn")
    ranks = []
    for n in range(2):
        os.environ["RANK"] = str(n)
        ranks.append(context.Process(target=rank, args=(n,)))
        ranks[-1].start()
    for one in ranks:
        one.join()
    sys.exit(max(one.exitcode for one in ranks))


def fault():
    """An illegal access in mid-run: the context is lost."""
    talker = loop()
    talker.last_codes.fill_(1 << 40)
    talker.decode()
    torch.cuda.synchronize()


CASES = {f.__name__: f for f in (recapture, streams, free, exception, fork, os_exit, sigkill, processes, fault)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    with torch.no_grad():
        CASES[parser.parse_args().case]()
