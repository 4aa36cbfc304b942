"""The loop of `decode_loop.py`, which tells twinstep the names of its buffers and where steps end.

    twinstep attach -o graph.twin -- python decode_loop_named.py --mode graph
    python decode_loop_named.py --mode eager --record eager.twin      without attach: buffers only, no kernels
"""

import torch
import twinstep
from decode_loop import LAYERS, Talker, arguments, digest, requests


def watch(recording, talker):
    """Everything that a step goes on from or gives. Told again, a name that moved is a new generation."""
    recording.watch("last_codes", talker.last_codes)
    recording.watch("position", talker.position)
    recording.watch("logits", talker.logits, role="output")
    for layer in range(LAYERS):
        recording.watch(f"kv_cache.{layer}", talker.kv_cache[layer])
        if talker.mlp_out[layer] is not None:
            recording.watch(f"mlp_in.{layer}", talker.mlp_in[layer], role="scratch")
            recording.watch(f"mlp_out.{layer}", talker.mlp_out[layer], role="scratch")


@torch.no_grad()
def main():
    parser = arguments()
    parser.add_argument("--record", help="the trace, where the process is not attached")
    options = parser.parse_args()
    talker = Talker(options.mode, options.fault)
    results = []
    with twinstep.record(options.record, mode=options.mode, model="decode_loop.py") as recording:
        watch(recording, talker)
        with recording.warmup("warm-up and capture"):
            talker.warm_up()
        for name, prompt, steps in requests(options.steps):
            recording.request(name, prompt=prompt)
            talker.reset()
            watch(recording, talker)
            with recording.launch("forward"):
                talker.prefill(prompt)
            recording.step()
            for _ in range(steps):
                with recording.launch("forward"):
                    talker.decode()
                watch(recording, talker)
                results += [talker.last_codes.clone(), talker.logits.clone()]
                recording.step()
    results += talker.kv_cache
    torch.cuda.synchronize()
    print(f"{len(results)} results, digest {digest(results)}")


if __name__ == "__main__":
    main()
