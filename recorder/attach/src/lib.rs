//! The library that `twinstep attach` preloads into an unmodified process.
//!
//! It stands between a program and the CUDA *driver* (not the runtime): whatever a program is built on, it gets
//! the driver's functions by linking `libcuda.so.1`, by `dlsym`, or from `cuGetProcAddress`, and each of these
//! gives our wrappers here. A wrapper calls the real function with the same arguments and returns its result;
//! beside that it says what happened to the `session`, which puts events into a queue. A thread of our own (the
//! `writer`) turns events into trace records.
//!
//! ```text
//! program ─► hooks ─► real libcuda
//!              │
//!              ▼ (one lock, no allocation for what is frequent)
//!           session ──events──► writer thread ──► RUN.twin
//!              │                    ▲
//!              └─► snapshot ────────┘ (chunks that arrived on the host)
//! ```
//!
//! | module | concept |
//! | --- | --- |
//! | `driver` | the real driver's functions, looked up at first use, and its types |
//! | `hooks` | the exported wrappers, by what they are about |
//! | `settings` | what the environment asks for |
//! | `watch` | the watch file |
//! | `attached` | what there is once in a process; how wrappers reach it |
//! | `session` | what the program has: memory, streams, graphs, watched buffers, the step it is in |
//! | `events` | what happened, in order |
//! | `activity` | whether anything may have written memory between two snapshots |
//! | `snapshot` | copies of watched buffers, made on the launch's own stream |
//! | `contents` | what is inside a graph |
//! | `reexecute` | one recorded graph launch again, in this process |
//! | `writer` | events to records |
//! | `rows` | memory in rows: 2D and 3D copies and fills |
//! | `ring` | only the last steps are kept |
//! | `process` | fork, exit |
//! | `start` | recording that begins later |
//! | `check` | what is told to who only asks |
//! | `api` | the C interface of the Python package |
//!
//! # Where the device side plugs in
//!
//! - `snapshot::Snapshotter` is called around each graph launch and bracket (`enqueue`, by the program's thread,
//!   with the program's context current, the session's lock *not* held) and by the writer thread (`poll`).
//!   `snapshot::make` chooses one. `snapshot::Plain` copies everything and serves drivers without kernels.
//! - `contents::read` is called once an instantiation, by the program's thread right after the real call returned,
//!   and returns plain data. Names of buffers are put to addresses later, by the writer.
//! - `reexecute` exports `twinstep_reexecute` beside the functions of `api`; it finds graphs by
//!   `Session::contents` and calls the real driver only.
//!
//! # Rules
//!
//! - The program never crashes or changes because of us: panics are caught, trouble of ours ends the recording
//!   with a gap and the program goes on.
//! - No synchronisation that the program did not make; inside a capture nothing of ours is enqueued.
//! - A wrapper that is entered again on the same thread (the driver calling itself) passes through.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
// In a test the wrappers are not exported, and so nobody uses them.
#![cfg_attr(test, allow(dead_code))]
#![allow(unreachable_pub, reason = "a cdylib exports C symbols only; pub says which module uses what")]

mod activity;
mod api;
mod attached;
mod check;
mod contents;
mod driver;
mod events;
mod hooks;
mod process;
mod reexecute;
mod ring;
mod rows;
mod session;
mod settings;
mod snapshot;
mod start;
mod watch;
mod writer;
