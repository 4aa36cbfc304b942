"""The loop of `decode_loop.py`, which tells twinstep the names of its buffers and where steps end.

    twinstep attach -o graph.twin -- python decode_loop_named.py --mode graph
    python decode_loop_named.py --mode eager --record eager.twin      without attach: buffers only, no kernels
"""

import torch
import twinstep
from decode_loop import Talker, arguments, digest, requests


def watch(recording, talker):
    """Everything that a step goes on from or gives. A callable is asked again at each step: memory that has moved
    since is a new generation of its name."""
    recording.watch("last_codes", lambda: talker.last_codes)
    recording.watch("position", lambda: talker.position)
    recording.watch("logits", lambda: talker.logits, role="output")
    for layer in range(talker.layers):
        recording.watch(f"kv_cache.{layer}", lambda layer=layer: talker.kv_cache[layer])


def watch_captured(recording, talker):
    """Inputs and outputs of graphs that were captured since."""
    for layer in range(talker.layers):
        if talker.mlp_out[layer] is not None:
            recording.watch(f"mlp_in.{layer}", lambda layer=layer: talker.mlp_in[layer], role="scratch")
            recording.watch(f"mlp_out.{layer}", lambda layer=layer: talker.mlp_out[layer], role="scratch")


@torch.no_grad()
def main():
    parser = arguments()
    parser.add_argument("--record", help="the trace, where the process is not attached")
    options = parser.parse_args()
    talker = Talker(options.mode, options.fault, options.layers, options.positions)
    results = []
    with twinstep.record(options.record, mode=options.mode, model="decode_loop.py") as recording:
        watch(recording, talker)
        with recording.warmup("warm-up and capture"):
            talker.warm_up()
        for name, prompt, steps in requests(options.steps):
            recording.request(name, prompt=prompt)
            talker.reset()
            with recording.launch("forward"):
                talker.prefill(prompt)
            recording.step()
            for number in range(steps):
                with recording.launch("forward"):
                    talker.decode()
                if number == 0:
                    watch_captured(recording, talker)
                results += [talker.last_codes.clone(), talker.logits.clone()]
                recording.step()
    results += talker.kv_cache
    torch.cuda.synchronize()
    print(f"{len(results)} results, digest {digest(results)}")


if __name__ == "__main__":
    main()
