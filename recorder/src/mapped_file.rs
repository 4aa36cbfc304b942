//! A weights file by memory map; the only module with `unsafe`.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a file for reading.
///
/// # Errors
/// Where it cannot be opened or mapped, or is no regular file.
pub(crate) fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // SAFETY: the map is private to this process and never written by it. Another process that cuts
    // or changes the file while it is mapped breaks the assumption that the bytes stay; they are only
    // ever read as plain bytes, so changed bytes give other weights, which their SHA-256 shows. A file
    // that is cut ends the process with SIGBUS: it is read within moments of being opened, and there is
    // no lock that every writer of weights files would honour.
    unsafe { Mmap::map(&file) }
}
