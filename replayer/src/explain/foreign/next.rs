//! What to do where the logs do not decide: what tells each candidate apart from the others, then what tells more.

use twinstep_traces::RunRecord;

use super::candidate::Candidate;
use super::located::Located;
use crate::at::At;
use crate::kind::Kind;

/// How a run was recorded, which decides what else its user can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Its process was attached to, or another recorder told what it launched.
    Process,
    /// By the Python package by itself.
    Alone,
    /// Somebody's dumps were imported.
    Dumps,
}

impl Recorded {
    pub(super) fn of(run: &RunRecord) -> Recorded {
        match run.tool.as_str() {
            tool if tool.starts_with("twinstep import") => Recorded::Dumps,
            tool if tool.starts_with("twinstep-python") => Recorded::Alone,
            _ => Recorded::Process,
        }
    }
}

/// One line each, in the order of the candidates.
pub(super) fn next(located: &Located, at: At, candidates: &[Candidate], recorded: Recorded) -> Vec<String> {
    let step = at.step.unwrap_or(0);
    let name = located.differing.first().map_or("NAME", String::as_str);
    let mut next: Vec<String> = Vec::new();
    for candidate in candidates {
        let text = tells(candidate, at);
        if !next.contains(&text) {
            next.push(text);
        }
    }
    if recorded != Recorded::Process {
        let more = match recorded {
            Recorded::Dumps => {
                format!("dump more buffers that feed {name}, and what they hold before the step")
            }
            _ => format!(
                "watch more buffers that feed {name}, or put r.launch(\"NAME\") around parts of the step"
            ),
        };
        next.push(format!("{more}, to narrow down where it first differs"));
        next.push(
            "record the program with `twinstep attach`: what its graphs launch and bind is seen then, and causes are named \
             from it"
                .to_owned(),
        );
        return next;
    }
    next.push(format!(
        "in the process that was recorded: r.reexecute({step}, patch={{\"{name}\": the other run's value}}) shows whether \
         what the step was given decides"
    ));
    if candidates.iter().all(|c| !c.fits) {
        next.push(format!(
            "watch more buffers that feed {name}, or put r.launch(\"NAME\") around parts of the step, to narrow down where \
             it first differs"
        ));
        if !located.launches {
            next.push(
                "record the eager run with `attach --launches`, so that its arguments can be compared"
                    .to_owned(),
            );
        }
    }
    next
}

/// What would show that it is this one, or that it is not.
fn tells(candidate: &Candidate, at: At) -> String {
    let (kind, run) = (candidate.kind, candidate.side.name().to_uppercase());
    let step = at.step.unwrap_or(0);
    let buffer = candidate.buffers.first().map_or("NAME", String::as_str);
    let bare = buffer.rsplit_once('@').map_or(buffer, |(name, _)| name);
    let what = match kind {
        Kind::StaleBinding | Kind::UseAfterFree | Kind::AliasedMemory => format!(
            "`twinstep history {run}.twin {buffer} --at {at} --after` shows who still writes what the graph binds; if the \
             engine writes in place, or captures again after it allocates, the difference must be gone"
        ),
        Kind::UnlaunchedCapture => {
            "with a launch of the graph right after its capture, the difference must be gone".to_owned()
        }
        Kind::MissingHostWrite | Kind::LateHostWrite => format!(
            "r.reexecute({step}, patch={{\"{bare}\": the other run's value}}) in the process of {run} must give the other \
             run's results"
        ),
        Kind::UnorderedWriters => {
            "with an event after the copy that the launch's stream waits for, the difference must be gone"
                .to_owned()
        }
        Kind::FrozenArgument => {
            let argument = candidate.arguments.first().map_or("the argument", String::as_str);
            format!(
                "if the engine captures again just before step {at}, {argument} has that step's value and the difference \
                 must be gone there"
            )
        }
        Kind::WrongDispatch | Kind::MissingLaunch => {
            format!(
                "`twinstep log {run}.twin --at {at}` beside the step before shows what was launched; if the engine \
                 launches what it always does, the difference must be gone"
            )
        }
        _ => format!("`twinstep log {run}.twin --at {at}` shows what ran"),
    };
    format!("{kind} in {run}: {what}")
}
