//! The public report that the demo re-creates, and how its reporter could decide.

use serde::Serialize;

/// Where it was reported.
pub(crate) const REPORT: &str = "vllm-omni #4564";

/// What was reported.
pub(crate) const REPORTED: &str = "The report (vllm-omni #4564): a speech model says the right words, eager and \
     from a CUDA graph, but one decode step differs. Means of its LM logits at steps 1, 2, 3: eager 13.43, \
     0.312, 13.20; graph 13.43, 13.56, 13.59. The reporter had two guesses. Nobody has confirmed a cause.";

/// The hypothesis that is re-created.
pub(crate) const HYPOTHESIS: &str = "A third one, from reading the engine: its eager profile captures each layer's \
     norm+MLP as a graph inside the first decode step and uses the graph's outputs without launching it.";

/// What this is, and what it is not.
pub(crate) const WHAT_IT_IS: &str = "This is a re-creation with twinstep's own engine and small voice of a hypothesis \
     that nobody has confirmed. It shows that the mechanism would look like the report, and how one finds it; it \
     says nothing about what the upstream engine did.";

/// A way to decide on the real machine.
#[derive(Debug, Serialize)]
pub(crate) struct Decision {
    /// What to do.
    pub(crate) does: &'static str,
    /// The setting, or the line of code.
    pub(crate) setting: &'static str,
    /// What would follow if the hypothesis holds.
    pub(crate) then: &'static str,
}

/// The three ways. They come from reading the engine's source and were not run.
pub(crate) const DECISIONS: [Decision; 3] = [
    Decision {
        does: "run eager without the talker's own graphs",
        setting: "enforce_eager: true and enable_mlp_cudagraph: false",
        then: "step 2 is no outlier any more, and equals the graph run's",
    },
    Decision {
        does: "send a second request of the same batch size to the same process",
        setting: "the profile as it was: enforce_eager: true",
        then: "its step 2 is no outlier: the graphs are there by then, and are launched",
    },
    Decision {
        does: "where the talker captures norm+MLP, launch the graph once, or poison its outputs",
        setting: "after the capture: graph.replay(), or static_output.fill_(float('nan'))",
        then: "launched, step 2 is right; poisoned, its logits are NaN",
    },
];
