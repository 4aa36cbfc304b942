//! The mechanisms that a finding or a verdict can name: a closed list.

use std::fmt;

use serde::Serialize;

macro_rules! kinds {
    ($($variant:ident $name:literal $meaning:literal;)*) => {
        /// What went wrong, as a mechanism.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Kind { $(#[doc = $meaning] $variant,)* }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$variant,)*];

            /// Its name in documents and messages.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Kind::$variant => $meaning,)* }
            }
        }
    };
}

kinds! {
    Identical "identical" "Both runs have the same bits at every common point, and neither breaks a check or a rule.";
    Rounding "rounding" "Both runs compute the same thing in another order of additions; the difference stays within the bound of that order.";
    Noise "noise" "The difference is no greater than between two runs of the same mode.";
    UninitialisedRead "uninitialised-read" "A launch reads bytes that nothing has written since they were allocated.";
    UnlaunchedCapture "unlaunched-capture" "A graph was captured and its outputs were used although it had not been launched: capturing does not execute.";
    StaleBinding "stale-binding" "A graph reads or writes a buffer that its name no longer means: another allocation, or a copy that nobody refreshes.";
    UseAfterFree "use-after-free" "A graph still binds memory that was given back.";
    AliasedMemory "aliased-memory" "Two live buffers share the same memory, and one overwrites what the other still needs.";
    FrozenArgument "frozen-argument" "A value that changes from step to step was passed by value and frozen in a graph when it was captured.";
    FrozenBranch "frozen-branch" "A decision of the host was made while a graph was captured, and the graph repeats it whatever the state is.";
    MissingHostWrite "missing-host-write" "The host does not write something that the step needs.";
    LateHostWrite "late-host-write" "The host writes the right value, but only after the launches that read it.";
    MissingLaunch "missing-launch" "A launch that the step needs is not part of it.";
    StaleMemory "stale-memory" "A launch reads what an earlier request or step left behind, beyond what is valid now.";
    UndersizedWorkspace "undersized-workspace" "A workspace was sized for less than the step needs, so part of the result has no place in it.";
    CounterNotAdvanced "counter-not-advanced" "A counter that every step has to advance keeps its value.";
    WrongDispatch "wrong-dispatch" "Of several captured graphs the wrong one was launched.";
    PaddingLeak "padding-leak" "Rows of the batch that no request occupies have an effect.";
    NotEngaged "not-engaged" "A graph was captured and never launched: the run was not what it claims to be.";
    StrayWrite "stray-write" "Bytes changed that nothing in the log writes.";
    UnorderedWriters "unordered-writers" "Two writers of the same bytes have no order between them.";
    RuleBroken "rule-broken" "An invariant of the model does not hold.";
    Unknown "unknown" "The evidence does not decide.";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn documents_and_messages_use_the_same_names() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
