"""Runs everything that needs a GPU and PyTorch, and says what held.

    python proof.py --twinstep ../../../target/release/twinstep --python ../../python/src --out proof

Parts: `digests` (the same results attached and not), `mistakes` (named from attached traces), `life` (a readable trace
whatever happens to a process), `allocators`, `reexecute`; `cards`, which needs two, where it is asked for. Each program
runs under a time limit. Exits 1 where something did not hold.
"""

import argparse
import glob
import json
import os
import re
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 90
failed = 0
began = time.monotonic()


def report(what, ok, detail=""):
    global failed
    failed += not ok
    print(f"{time.monotonic() - began:5.0f} s  {'ok    ' if ok else 'FAILED'} {what}{': ' if detail else ''}{detail}", flush=True)


class Bench:
    """Where the binary and the traces are."""

    def __init__(self, options):
        self.twinstep, self.out = os.path.abspath(options.twinstep), os.path.abspath(options.out)
        self.environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1")
        if options.python:
            self.environment["PYTHONPATH"] = os.path.abspath(options.python)
        os.makedirs(self.out, exist_ok=True)

    def run(self, command, **environment):
        """Exit status and output."""
        process = subprocess.Popen(
            command, cwd=HERE, env=self.environment | environment, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=LIMIT)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            # Ranks too: they would hold the cards.
            os.killpg(process.pid, signal.SIGKILL)
            return 124, f"over {LIMIT} s: {process.communicate()[0]}"

    def python(self, script, *arguments, **environment):
        return self.run([sys.executable, script, *arguments], **environment)

    def trace(self, name):
        return os.path.join(self.out, name + ".twin")

    def attached(self, name, script, *arguments, options=(), **environment):
        command = [self.twinstep, "attach", "--force", "-o", self.trace(name), *options, "--"]
        return self.run([*command, sys.executable, script, *arguments], **environment)

    def readable(self, name, steps=None):
        """Whether all traces of a run verify, and their `info`."""
        documents = []
        files = sorted(glob.glob(self.trace(name)[: -len(".twin")] + "*.twin"))
        for file in files:
            status, text = self.run([self.twinstep, "verify", file])
            if status != 0:
                return False, f"{file}: verify gives {status}: {text.strip()[-300:]}"
            status, text = self.run([self.twinstep, "info", "--json", file])
            if status != 0:
                return False, f"{file}: info gives {status}: {text.strip()[-300:]}"
            documents.append(json.loads(text))
        if not files:
            return False, "no trace"
        counts = ", ".join(
            f"{os.path.basename(file)} {d['steps']} steps {len(d['graphs'])} graphs"
            f"{'' if d['complete'] else ' (cut off)'} {os.path.getsize(file)} bytes"
            for file, d in zip(files, documents)
        )
        return steps is None or documents[0]["steps"] == steps, counts


def digest_of(text):
    return re.findall(r"\b[0-9a-f]{64}\b", text)


def digests(bench):
    """Bit-identical results over 200 steps."""
    for mode in ("graph", "piecewise", "eager"):
        plain = digest_of(bench.python("decode_loop.py", "--mode", mode)[1])
        for name, script in (("", "decode_loop.py"), ("named.", "decode_loop_named.py")):
            status, text = bench.attached(f"{name}{mode}", script, "--mode", mode)
            report(f"{name}{mode}: digest attached and not", status == 0 and digest_of(text) == plain, text.strip()[-200:])
            if mode != "eager" or name:
                steps = 200 if not name else 202
                report(f"{name}{mode}: trace", *bench.readable(f"{name}{mode}", steps))
    names = json.loads(bench.run([bench.twinstep, "info", "--json", bench.trace("named.graph")])[1])["buffers"]
    names = {buffer["name"] for buffer in names}
    report("buffers are named", {"last_codes", "position", "logits", "kv_cache.0"} <= names, " ".join(sorted(names))[:120])


def mistakes(bench):
    """Each is named by `check` from one trace, or by `explain` from two."""
    runs = {
        "unlaunched": ("piecewise", ["unlaunched-capture"]),
        # The old buffer is given back as well, where nobody else holds it.
        "rebound": ("graph", ["stale-binding", "use-after-free"]),
        "baked": ("graph", ["frozen-argument"]),
    }
    for fault, (mode, kinds) in runs.items():
        traces = {}
        for run, arguments in (("fault", ["--mode", mode]), ("eager", ["--mode", "eager"])):
            name = f"{run}.{fault}"
            arguments += ["--fault", fault, "--steps", "12", "--layers", "2", "--positions", "32"]
            status, text = bench.attached(name, "decode_loop_named.py", *arguments, options=["--launches"])
            report(f"{fault}: {run} recorded", status == 0, text.strip()[-200:])
            report(f"{fault}: {run} trace", *bench.readable(name))
            traces[run] = bench.trace(name)
        named = False
        for command in (["diff", *traces.values()], ["check", traces["fault"]], ["explain", *traces.values()]):
            status, text = bench.run([bench.twinstep, *command])
            found = [kind for kind in kinds if kind in text]
            named |= bool(found) and command[0] != "diff"
            print(f"         {command[0]} exits {status}{', names ' + ' '.join(found) if found else ''}:")
            print("\n".join("         | " + line[:200] for line in text.strip().splitlines()[:24]), flush=True)
        report(f"{fault} is named", named)
    name = "sound"
    bench.attached(name, "decode_loop_named.py", "--mode", "piecewise", "--steps", "12", options=["--launches"])
    status, text = bench.run([bench.twinstep, "check", bench.trace(name)])
    report("check finds nothing in the sound piecewise run", status == 0, text.strip()[-300:] if status else "")


def life(bench):
    """A readable trace each time, and the program ends as it ends by itself."""
    cases = "recapture streams free exception fork os_exit sigkill processes fault"
    for case in (os.environ.get("CASES") or cases).split():
        plain, plain_text = bench.python("life.py", case)
        status, text = bench.attached(f"life.{case}", "life.py", case)
        plain = 128 - plain if plain < 0 else plain
        report(f"{case}: exit status {plain}", status == plain, "" if status == plain else f"{status}: {text.strip()[-300:]}")
        report(f"{case}: digests", digest_of(text) == digest_of(plain_text), f"{len(digest_of(text))}")
        report(f"{case}: trace", *bench.readable(f"life.{case}"))


def allocators(bench):
    """PyTorch's other ways to get memory."""
    for name, setting in (("expandable", "expandable_segments:True"), ("async", "backend:cudaMallocAsync")):
        setting = {"PYTORCH_CUDA_ALLOC_CONF": setting}
        plain = digest_of(bench.python("decode_loop.py", "--steps", "40", **setting)[1])
        status, text = bench.attached(f"allocator.{name}", "decode_loop.py", "--steps", "40", **setting)
        report(f"{name}: digest attached and not", status == 0 and digest_of(text) == plain != [], text.strip()[-200:])
        report(f"{name}: trace", *bench.readable(f"allocator.{name}", 40))


def reexecute(bench):
    status, text = bench.attached("reexecute", "reexecute.py")
    print("\n".join("         | " + line for line in text.strip().splitlines()), flush=True)
    report("re-execution in the process", status == 0)
    report("re-execution: trace", *bench.readable("reexecute", 14))


def cards(bench):
    """Two ranks on two cards: one trace each, the same results, and a mistake of one rank is named on that rank."""

    def ranks_of(name):
        return [bench.trace(f"{name}.rank{rank}") for rank in (0, 1)]

    status, text = bench.python("two_cards.py", "--mode", "graph")
    plain = sorted(digest_of(text))
    report("not attached", status == 0 and len(plain) == 2, text.strip()[-300:])
    for name, arguments in {
        "graph": ["--mode", "graph"], "eager": ["--mode", "eager", "--fault", "baked"], "rebound": ["--mode", "graph", "--fault", "rebound"],
        "baked": ["--mode", "graph", "--fault", "baked"],
    }.items():  # fmt: skip
        status, text = bench.attached(f"cards.{name}", "two_cards.py", *arguments, options=["--launches"])
        report(f"{name} on two cards recorded", status == 0, text.strip()[-300:])
        report(f"{name}: traces", *bench.readable(f"cards.{name}"))
        if name == "graph":
            report("digests attached and not", sorted(digest_of(text)) == plain != [])
    eager = ranks_of("cards.eager")
    for name, kinds in {"graph": None, "rebound": ["stale-binding", "use-after-free"], "baked": ["frozen-argument"]}.items():
        traces, named = ranks_of(f"cards.{name}"), False
        for command in (
            ["diff", traces[0], eager[0]], ["check", traces[0]], ["check", traces[1]],
            ["explain", traces[0], eager[0]], ["explain", traces[1], eager[1]],
        ):  # fmt: skip
            status, text = bench.run([bench.twinstep, *command])
            named |= command[0] != "diff" and any(kind in text for kind in kinds or [])
            print(f"         {' '.join(os.path.basename(word) for word in command)} exits {status}:")
            print("\n".join("         | " + line[:200] for line in text.strip().splitlines()[:24]), flush=True)
            if command[0] in ("diff", "check") and kinds is None:
                report(f"{name}: {command[0]} finds nothing", status == 0)
        if kinds:
            report(f"{name} on rank 1 is named", named)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twinstep", default="twinstep")
    parser.add_argument("--python", default="", help="folder of the Python package")
    parser.add_argument("--out", default="proof")
    parts = {part.__name__: part for part in (digests, mistakes, life, allocators, reexecute, cards)}
    # No `choices`: Python 3.12 compares the empty list with them.
    parser.add_argument("parts", nargs="*", metavar="PART", help="all but `cards` where none is named")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        parser.error(f"no part `{unknown[0]}`: {' '.join(parts)}")
    bench = Bench(options)
    for part in options.parts or [part for part in parts if part != "cards"]:
        try:
            parts[part](bench)
        except Exception as error:
            report(f"{part}: {type(error).__name__}: {error}", False)
    print(f"{failed} did not hold")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
