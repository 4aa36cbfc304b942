"""Executes recorded steps of its own captured graph again, in the process, with and without a patch.

    twinstep attach -o run.twin -- python reexecute.py

Exits 1 where something is not as it must be: without a patch the outcome is what was recorded, with one it is not;
a prefix of the graph leaves what its last node leaves; and the process's own memory is untouched.
"""

import sys

import numpy as np
import torch
import twinstep
from decode_loop import Talker, digest

failed = False


def check(what, ok):
    global failed
    failed |= not ok
    print("ok    " if ok else "FAILED", what)


def state(talker):
    torch.cuda.synchronize()
    return digest([talker.last_codes, talker.position, talker.logits, *talker.kv_cache])


def watch(recording, talker):
    recording.watch("last_codes", talker.last_codes)
    recording.watch("position", talker.position)
    recording.watch("logits", talker.logits, role="output")
    for layer in range(talker.layers):
        recording.watch(f"kv_cache.{layer}", talker.kv_cache[layer])


@torch.no_grad()
def main():
    talker = Talker("graph", "none")
    with twinstep.record(None, mode="graph") as recording:
        watch(recording, talker)
        with recording.warmup("capture"):
            talker.warm_up()
        recording.request("first", prompt=[3, 14])
        talker.reset()
        talker.prefill([3, 14])
        recording.step("prefill")
        codes = []
        for _ in range(12):
            talker.decode()
            codes.append(talker.last_codes.tolist())
            recording.step("decode")
        before = state(talker)

        plain = recording.reexecute(5)
        check("step 5 without a patch is what was recorded", all(one.equal_to_recorded for one in plain.values()))
        check("its codes are those of that step", plain["last_codes"].values.tolist() == codes[3])
        check("no buffer is said to be changed", not any(one.changed_by_patch for one in plain.values()))
        check("the process's state is untouched", state(talker) == before)

        patch = {"last_codes": np.zeros(4, np.int64)}
        patched = recording.reexecute(5, patch=patch)
        changed = [name for name, one in patched.items() if one.changed_by_patch]
        check(f"with last_codes patched, {' '.join(sorted(changed))} change", "logits" in changed)
        check("and are not what was recorded", not patched["logits"].equal_to_recorded)
        check("the position does not change", "position" not in changed and patched["position"].equal_to_recorded)
        check("the process's state is untouched again", state(talker) == before)

        first = recording.reexecute(5, stop_after=0)
        check("a prefix of one node leaves the logits as they were", first["logits"].values.tolist() != plain["logits"].values.tolist())
        nodes = next(n for n in range(1, 200) if same(recording.reexecute(5, stop_after=n), plain))
        check(f"with {nodes + 1} nodes all is as after the whole graph", True)
        check("the process's state is untouched after all prefixes", state(talker) == before)

        talker.decode()
        recording.step("decode")
        torch.cuda.synchronize()
        try:
            recording.reexecute(99)
            check("a step that is not recorded is refused", False)
        except twinstep.TraceError as error:
            check(f"a step that is not recorded is refused: {error}", True)
        print("ends at", digest([talker.last_codes, talker.logits]))
    sys.exit(failed)


def same(a, b):
    return all(np.array_equal(a[name].values.view(np.uint8), b[name].values.view(np.uint8)) for name in b)


if __name__ == "__main__":
    main()
