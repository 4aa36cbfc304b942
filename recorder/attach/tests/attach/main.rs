//! The preloaded library in real processes: a stub driver on host memory, small C engines that reach it by every
//! route, and `twinstep attach` around them.

mod changes;
mod endings;
mod engine;
mod later;
mod memory;
mod moves;
mod names;
mod processes;
mod refused;
mod routes;
mod snapshots;
