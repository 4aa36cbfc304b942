"""The example: recorded eager and captured, and `twinstep diff` names the feedback that was frozen."""

import subprocess
import sys

from conftest import ROOT

import twinstep

sys.path.insert(0, str(ROOT / "recorder" / "python" / "examples"))
import divergence  # noqa: E402


def test_diff_finds_the_frozen_feedback(tmp_path, twinstep_binary):
    eager, graph, again = tmp_path / "eager.twin", tmp_path / "graph.twin", tmp_path / "again.twin"
    divergence.run("eager", str(eager))
    divergence.run("graph", str(graph))
    divergence.run("eager", str(again))
    told = twinstep_binary.json("diff", eager, graph, "--stat", "logits:mean", status=1)
    first = told["first"]
    # Step 1 reads the seed in both. In step 2 the captured form still does: same codes given, other state left.
    assert (first["request"], first["step"], first["point"]) == (1, 2, "forward.after")
    assert first["buffer"] in ("hidden", "logits")
    assert twinstep_binary.json("diff", eager, again, "--stat", "logits:mean")["identical"]
    for path in (eager, graph):
        assert twinstep_binary.json("check", path)["findings"] == []
    a, b = twinstep.open(eager), twinstep.open(graph)
    assert a.buffer("last_codes", 2, "forward.before").tolist() == b.buffer("last_codes", 2, "forward.before").tolist()
    assert a.buffer("last_codes", 1, "step.before").tolist() == [divergence.SEED_CODE] * 4
    assert len(a.steps) == 6 and a.requests[0].text == "example-1"


def test_it_runs_as_it_says(tmp_path):
    script = ROOT / "recorder" / "python" / "examples" / "divergence.py"
    done = subprocess.run([sys.executable, "-B", script, "graph", tmp_path / "g.twin"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(twinstep.open(tmp_path / "g.twin").steps) == 6
    assert subprocess.run([sys.executable, "-B", script], capture_output=True, check=False).returncode == 1
