//! One recorded graph launch again, in the process that owns the graph.
//!
//! Waits for the device, saves what the graph may change, puts back what the launch was given then, patches it,
//! launches the same graph (or a copy of it cut after a node), reads the outcome, and puts the process's memory back.

pub mod kept;
pub mod memory;
mod recorded;

use std::collections::BTreeMap;

use twinstep_traces::{BufferId, Trace};

use crate::attached::Attached;
use crate::driver::{self, CUgraphExec, SUCCESS};
use crate::events::Event;
use crate::snapshot::Watched;
use memory::Saved;
use recorded::Recorded;

/// What to execute again.
pub struct Asked {
    pub request: u32,
    pub step: u32,
    /// Which graph launch of the step, from 0.
    pub launch: u32,
    /// Run the graph's nodes up to this one only.
    pub stop_after: Option<u32>,
    /// Names and all their bytes.
    pub patches: Vec<(String, Vec<u8>)>,
}

/// What a buffer holds afterwards.
pub struct Output {
    pub name: String,
    pub bytes: Vec<u8>,
    /// It differs from the re-execution without patches.
    pub changed_by_patch: bool,
    /// It is what was recorded after the launch.
    pub equal_to_recorded: bool,
}

/// Contents of buffers.
type State = BTreeMap<BufferId, Vec<u8>>;

/// See the module. A context is current.
///
/// # Errors
/// Why it can't be done; the process's memory is as it was.
pub fn run(attached: &Attached, asked: &Asked) -> Result<Vec<Output>, String> {
    let path = attached.writer.path().ok_or("nothing is recorded yet")?;
    let trace = Trace::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let recorded = Recorded::find(&trace, asked.request, asked.step, asked.launch)?;
    let before = recorded::state(&trace, recorded.before)?;
    let after = recorded::state(&trace, recorded.after)?;
    if attached.captures.load(std::sync::atomic::Ordering::Relaxed) > 0 {
        return Err("a stream is being captured".to_owned());
    }
    // Nothing watched is given back, and no snapshot is taken, while memory holds another step's contents.
    let _closed = attached.gate.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (exec, live, names, ranges) = {
        let session = attached.session();
        let (exec, contents) =
            session.exec(recorded.graph).ok_or_else(|| format!("graph {} is destroyed", recorded.graph.0))?;
        attached.kept.check(exec, &session.memory)?;
        let live: BTreeMap<BufferId, Watched> = session.watches.live().map(|w| (w.buffer, *w)).collect();
        let names: BTreeMap<String, BufferId> =
            session.watches.names().map(|(name, buffer)| (name.to_owned(), buffer)).collect();
        (exec, live, names, memory::ranges(&contents, &session.memory))
    };
    let patches = patches(asked, &names, &live)?;
    let gone: Vec<String> =
        before.keys().filter(|b| !live.contains_key(b)).map(|&b| recorded::name(&trace, b)).collect();
    memory::wait()?;
    let cut = match asked.stop_after {
        Some(node) => Some(attached.kept.prefix(exec, node)?),
        None => None,
    };
    let exec = cut.as_ref().map_or(exec, |cut| cut.exec);
    let watched = live.values().map(|w| (w.address, w.bytes));
    let saved = Saved::take(watched, ranges)?;
    let again = |patches: &State| -> Result<State, String> {
        saved.put_back()?;
        for (buffer, bytes) in before.iter().chain(patches) {
            if let Some(watched) = live.get(buffer) {
                memory::write(watched.address, bytes)?;
            }
        }
        launch(exec)?;
        let outcome = after.keys().filter_map(|buffer| live.get(buffer));
        outcome.map(|w| Ok((w.buffer, memory::read(w.address, w.bytes)?))).collect()
    };
    let plain = again(&State::new());
    let patched = if patches.is_empty() { None } else { Some(again(&patches)) };
    saved.put_back()?;
    let plain = plain?;
    let patched = patched.transpose()?;
    tell(attached, asked, &saved, &gone);
    let outcome = patched.as_ref().unwrap_or(&plain);
    let outputs = outcome.iter().map(|(buffer, bytes)| Output {
        name: recorded::name(&trace, *buffer),
        bytes: bytes.clone(),
        changed_by_patch: plain.get(buffer) != Some(bytes),
        equal_to_recorded: after.get(buffer) == Some(bytes),
    });
    Ok(outputs.collect())
}

/// Says in the trace what was done, and what was left as the launches made it.
fn tell(attached: &Attached, asked: &Asked, saved: &Saved, gone: &[String]) {
    let Asked { request, step, launch, .. } = asked;
    let mut text =
        format!("graph launch {launch} of step {request}:{step} was executed again in this process");
    if saved.left_ranges > 0 {
        text += &format!(
            "; {} ranges ({} bytes) that the graph points into were not put back: more than {} MiB in all",
            saved.left_ranges,
            saved.left_bytes,
            memory::MAX_BYTES >> 20
        );
    }
    if !gone.is_empty() {
        text += &format!("; not restored, as they are watched no longer: {}", gone.join(", "));
    }
    attached.session().push(Event::Mark(text));
}

fn patches(
    asked: &Asked,
    names: &BTreeMap<String, BufferId>,
    live: &BTreeMap<BufferId, Watched>,
) -> Result<State, String> {
    let mut patches = State::new();
    for (name, bytes) in &asked.patches {
        let buffer = names.get(name).ok_or_else(|| format!("nothing is watched as `{name}`"))?;
        let expected = live.get(buffer).map_or(0, |w| w.bytes);
        if bytes.len() as u64 != expected {
            return Err(format!("the patch of `{name}` has {} bytes, the buffer {expected}", bytes.len()));
        }
        patches.insert(*buffer, bytes.clone());
    }
    Ok(patches)
}

/// Launches on a stream of our own and waits for it.
fn launch(exec: CUgraphExec) -> Result<(), String> {
    let mut stream = 0;
    /// `CU_STREAM_NON_BLOCKING`.
    const NON_BLOCKING: u32 = 1;
    // SAFETY: places for answers, and handles that the driver gave; all is waited for before the stream goes.
    let status = unsafe {
        let mut status = driver::cuStreamCreate(&mut stream, NON_BLOCKING);
        if status == SUCCESS {
            status = driver::cuGraphLaunch(exec, stream);
            let waited = driver::cuStreamSynchronize(stream);
            driver::cuStreamDestroy_v2(stream);
            status = if status == SUCCESS { waited } else { status };
        }
        status
    };
    if status == SUCCESS { Ok(()) } else { Err(format!("the launch failed: CUDA error {status}")) }
}
