//! The C interface that the Python package finds in the process (`ctypes.CDLL(None)`).
//!
//! All return 0, or -1 with [`twinstep_last_error`]. Strings are UTF-8 and end in NUL. None raises, waits for the
//! device or synchronises it, but for [`twinstep_reexecute`].

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::attached::{Attached, driver_did, ours};
use crate::driver::{self, CUstream, STREAM_LEGACY, SUCCESS};
use crate::events::{Event, Kind};
use crate::reexecute::{self, Asked};
use crate::session::memory::Place;
use crate::watch;

/// How long [`twinstep_flush`] waits for what has not arrived.
const FLUSH: Duration = Duration::from_secs(5);
/// Axes that a buffer may have.
const MAX_AXES: u32 = 32;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::new(CString::default());
}

fn fail(text: &str) -> c_int {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    LAST_ERROR.with(|last| *last.borrow_mut() = text);
    -1
}

/// Does what a function is asked for, and turns its outcome into C's.
fn answer(work: impl FnOnce(&'static Attached) -> Result<(), String>) -> c_int {
    match ours(work) {
        Some(Ok(())) => 0,
        Some(Err(text)) => fail(&text),
        None => fail("nothing is recorded in this process (any more)"),
    }
}

/// A string of the caller.
unsafe fn text<'a>(what: &str, text: *const c_char) -> Result<&'a str, String> {
    if text.is_null() {
        return Err(format!("no {what} was given"));
    }
    // SAFETY: the interface asks for a string that ends in NUL.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| format!("the {what} is not UTF-8"))
}

fn stream(stream: u64) -> CUstream {
    if stream == 0 { STREAM_LEGACY } else { stream as CUstream }
}

/// Version of this interface.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn twinstep_attach_version() -> u32 {
    1
}

/// What went wrong at the last call of this thread that returned -1; valid until its next call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn twinstep_last_error() -> *const c_char {
    LAST_ERROR.with(|last| last.borrow().as_ptr())
}

/// Names memory; again with another address, type or shape is a new generation.
///
/// # Safety
/// As the interface says: strings end in NUL, `shape` has `axes` entries.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn twinstep_watch(
    name: *const c_char,
    address: u64,
    dtype: *const c_char,
    axes: u32,
    shape: *const u64,
    role: *const c_char,
) -> c_int {
    answer(|attached| {
        // SAFETY: the caller's promise.
        let (name, dtype, role) = unsafe { (text("name", name)?, text("type", dtype)?, text("role", role)?) };
        let dtype = watch::dtype(dtype).ok_or_else(|| format!("no element type `{dtype}`"))?;
        let role = watch::role(role).ok_or_else(|| format!("no role `{role}`"))?;
        watch::usable(name)?;
        if axes > MAX_AXES || (axes > 0 && shape.is_null()) {
            return Err(format!("`{name}` has no shape, or more than {MAX_AXES} axes"));
        }
        let shape = match axes {
            0 => &[][..],
            // SAFETY: the caller's promise.
            axes => unsafe { std::slice::from_raw_parts(shape, axes as usize) },
        };
        let bytes = shape.iter().try_fold(dtype.size(), |bytes, &axis| bytes.checked_mul(axis));
        known(attached, name, address, bytes.unwrap_or(u64::MAX))?;
        attached.change(|session| session.watch(name, address, dtype, shape, role))
    })
}

/// Where memory came from that only the driver knows of.
const NOT_SEEN: &str = "memory whose allocation was not seen: who writes it is not known";

/// Whether memory is there: reading what is not would be an error that the program can't recover from. What only the
/// driver knows of is known to the session from here on: where it is, and when it is given back.
fn known(attached: &Attached, name: &str, address: u64, bytes: u64) -> Result<(), String> {
    {
        let session = attached.session();
        if session.memory.left_out(address, bytes) {
            return Err(format!(
                "`{name}`: the memory at {address:#x} is not read: it is an I/O device's, or of several devices at once"
            ));
        }
        if session.memory.holds(address, bytes) {
            return Ok(());
        }
    }
    let (mut base, mut size) = (0, 0);
    // SAFETY: both targets are ours; the address is only looked up.
    let result = unsafe { driver::cuMemGetAddressRange_v2(&mut base, &mut size, address) };
    let (size, end) = (size as u64, address.checked_add(bytes));
    if result != SUCCESS || address < base || end.is_none_or(|end| end > base.saturating_add(size)) {
        return Err(format!("`{name}`: no {bytes} bytes of device memory are known at {address:#x}"));
    }
    let place = match driver::on_host(address) {
        true => Place::Host,
        false => Place::Shared(driver::device_of(address)),
    };
    attached.change(|session| {
        // What is known of a part of it stays.
        if !session.memory.overlaps(base, size) {
            session.reached(base, size, place, NOT_SEEN);
        }
    });
    Ok(())
}

/// Snapshots no longer cover a name.
///
/// # Safety
/// `name` ends in NUL.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn twinstep_unwatch(name: *const c_char) -> c_int {
    answer(|attached| {
        // SAFETY: the caller's promise.
        let name = unsafe { text("name", name)? };
        let _closed = attached.gate.write().unwrap_or_else(PoisonError::into_inner);
        let known = attached.change(|session| session.unwatch(name));
        known.then_some(()).ok_or_else(|| format!("nothing is watched as `{name}`"))
    })
}

/// The engine gave the memory under a name back.
///
/// # Safety
/// `name` ends in NUL.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn twinstep_freed(name: *const c_char) -> c_int {
    answer(|attached| {
        // SAFETY: the caller's promise.
        let name = unsafe { text("name", name)? };
        let _closed = attached.gate.write().unwrap_or_else(PoisonError::into_inner);
        let known = attached.change(|session| session.freed(name));
        known.then_some(()).ok_or_else(|| format!("nothing is watched as `{name}`"))
    })
}

/// A new request begins; steps count from 1.
///
/// # Safety
/// `id` ends in NUL; `prompt` has `prompt_tokens` entries.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn twinstep_request(
    id: *const c_char,
    prompt: *const u32,
    prompt_tokens: u64,
) -> c_int {
    answer(|attached| {
        // SAFETY: the caller's promise.
        let id = unsafe { text("request id", id)? }.to_owned();
        if prompt_tokens > 1 << 26 || (prompt_tokens > 0 && prompt.is_null()) {
            return Err("the prompt has no tokens, or more than 2^26".to_owned());
        }
        let prompt = match prompt_tokens {
            0 => Vec::new(),
            // SAFETY: the caller's promise.
            n => unsafe { std::slice::from_raw_parts(prompt, n as usize) }.to_vec(),
        };
        attached.session().request(id, prompt);
        Ok(())
    })
}

/// The step that ran since the last call ends here.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn twinstep_step(kind: u32) -> c_int {
    answer(|attached| {
        let kind = match kind {
            0 => Kind::Told,
            1 => Kind::Prefill,
            2 => Kind::Decode,
            other => return Err(format!("no step kind {other}: 0 by order, 1 prefill, 2 decode")),
        };
        attached.session().step_end(kind);
        Ok(())
    })
}

/// What runs from now on is set-up, labelled, until it is switched off.
///
/// # Safety
/// `label` is null or ends in NUL.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn twinstep_warmup(on: u32, label: *const c_char) -> c_int {
    answer(|attached| {
        let label = match on {
            0 => None,
            // SAFETY: the caller's promise.
            _ if !label.is_null() => Some(unsafe { text("label", label)? }.to_owned()),
            _ => Some(String::new()),
        };
        attached.session().warm_up(label);
        Ok(())
    })
}

fn bracket(name: &str, on: u64, end: bool) -> c_int {
    driver_did(|attached| {
        attached.note_device();
        let on = stream(on);
        attached.session().bracket();
        let ticket = attached.snapshot(on);
        let name: Arc<str> = name.into();
        attached.push(|session| Event::Bracket { name, end, stream: session.stream(on), ticket });
    })
    .map_or_else(|| fail("nothing is recorded in this process (any more)"), |()| 0)
}

/// A bracket begins: `NAME.before` is taken on that stream (0: the legacy default stream).
///
/// # Safety
/// `name` ends in NUL.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn twinstep_launch_begin(name: *const c_char, stream: u64) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { text("name", name) } {
        Ok(name) => bracket(name, stream, false),
        Err(trouble) => fail(&trouble),
    }
}

/// A bracket ends: `NAME.after` is taken on that stream.
///
/// # Safety
/// `name` ends in NUL.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn twinstep_launch_end(name: *const c_char, stream: u64) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { text("name", name) } {
        Ok(name) => bracket(name, stream, true),
        Err(trouble) => fail(&trouble),
    }
}

/// Something to say about what is going on.
///
/// # Safety
/// `words` ends in NUL.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn twinstep_mark(words: *const c_char) -> c_int {
    answer(|attached| {
        // SAFETY: the caller's promise.
        let words = unsafe { text("text", words)? }.to_owned();
        attached.session().push(Event::Mark(words));
        Ok(())
    })
}

/// Something about the whole run; a mark once the file has begun.
///
/// # Safety
/// Both strings end in NUL.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn twinstep_note(key: *const c_char, value: *const c_char) -> c_int {
    answer(|attached| {
        // SAFETY: the caller's promise.
        let (key, value) = unsafe { (text("key", key)?.to_owned(), text("value", value)?.to_owned()) };
        attached.session().push(Event::Note(key, value));
        Ok(())
    })
}

/// Waits, on the host and not for long, until what has completed on the device is committed.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn twinstep_flush() -> c_int {
    answer(|attached| {
        let written = attached.writer.flush(FLUSH);
        written.then_some(()).ok_or_else(|| "not everything has arrived from the device yet".to_owned())
    })
}

/// A buffer's new contents.
#[repr(C)]
pub struct TwinstepPatch {
    name: *const c_char,
    bytes: *const c_void,
    length: u64,
}

/// Told of each buffer: context, name, bytes, length, whether the patch changed it, whether it is as recorded.
pub type TwinstepOutput = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_void, u64, c_int, c_int);

/// Executes the `graph_launch`-th graph launch of a recorded step again, with patches, up to a node of the graph
/// (`UINT32_MAX`: all). Waits for the device, and puts the process's memory back.
///
/// # Safety
/// Names end in NUL; `patches` has `count` entries with `length` bytes each; `output` may be called with `context`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn twinstep_reexecute(
    request: u32,
    step: u32,
    graph_launch: u32,
    stop_after_node: u32,
    patches: *const TwinstepPatch,
    count: u64,
    output: Option<TwinstepOutput>,
    context: *mut c_void,
) -> c_int {
    let mut outputs = Vec::new();
    let done = answer(|attached| {
        let mut given = Vec::new();
        for n in 0..if patches.is_null() { 0 } else { count as usize } {
            // SAFETY: the caller's promise.
            let patch = unsafe { &*patches.add(n) };
            // SAFETY: the caller's promise.
            let name = unsafe { text("name", patch.name)? }.to_owned();
            let bytes = match patch.length {
                0 => Vec::new(),
                _ if patch.bytes.is_null() => return Err(format!("the patch of `{name}` has no bytes")),
                // SAFETY: the caller's promise.
                n => unsafe { std::slice::from_raw_parts(patch.bytes.cast::<u8>(), n as usize) }.to_vec(),
            };
            given.push((name, bytes));
        }
        reexecute::memory::wait()?;
        if !attached.writer.flush(FLUSH) {
            return Err("not everything has arrived from the device yet".to_owned());
        }
        let stop_after = (stop_after_node != u32::MAX).then_some(stop_after_node);
        let asked = Asked { request, step, launch: graph_launch, stop_after, patches: given };
        outputs = reexecute::run(attached, &asked)?;
        Ok(())
    });
    let Some(output) = output else { return done };
    for one in &outputs {
        let name = CString::new(one.name.replace('\0', " ")).unwrap_or_default();
        let (bytes, length) = (one.bytes.as_ptr().cast(), one.bytes.len() as u64);
        let (changed, equal) = (c_int::from(one.changed_by_patch), c_int::from(one.equal_to_recorded));
        // SAFETY: the caller's own function; the strings and bytes live until it returns.
        unsafe { output(context, name.as_ptr(), bytes, length, changed, equal) };
    }
    done
}
