//! Preloaded into a process that only asks (`TWINSTEP_ATTACH_CHECK`): says what it sees and ends that process.
//!
//! `twinstep attach` and `twinstep doctor` ask this way, so that what they say was tried: preloading works, the
//! watch file can be read, and which driver there is.

use std::ffi::CStr;
use std::io::Write;
use std::path::PathBuf;

use crate::driver;
use crate::watch::WatchFile;

#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;

#[cfg_attr(test, allow(dead_code))]
extern "C" fn at_load() {
    if std::env::var_os("TWINSTEP_ATTACH_CHECK").is_none() {
        return;
    }
    let mut text = "twinstep-attach 1\n".to_owned();
    if let Some(path) = std::env::var_os("TWINSTEP_ATTACH_WATCH").filter(|path| !path.is_empty())
        && let Err(trouble) = WatchFile::open(&PathBuf::from(path))
    {
        text += &format!("watch-error {}\n", trouble.to_string().replace('\n', " "));
    }
    text += &match version() {
        Ok(version) => format!("cuda {version}\n"),
        Err(why) => format!("cuda-missing {}\n", why.replace('\n', " ")),
    };
    // Who asked reads this or nothing.
    let _ = std::io::stdout().write_all(text.as_bytes());
    // SAFETY: ends the process at once, as asked; nothing of it has begun.
    unsafe { libc::_exit(0) }
}

/// The driver's version, 12040 for 12.4.
fn version() -> Result<i32, String> {
    // SAFETY: constant names; dlerror's text lives until the next call on this thread.
    let loaded = unsafe {
        if libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY).is_null() {
            let error = libc::dlerror();
            let why = if error.is_null() { c"it cannot be loaded" } else { CStr::from_ptr(error) };
            Err(why.to_string_lossy().into_owned())
        } else {
            Ok(())
        }
    };
    loaded?;
    let mut version = 0;
    // SAFETY: the target is ours.
    match unsafe { driver::cuDriverGetVersion(&mut version) } {
        driver::SUCCESS => Ok(version),
        error => Err(format!("libcuda.so.1 gives no version: CUDA error {error}")),
    }
}
