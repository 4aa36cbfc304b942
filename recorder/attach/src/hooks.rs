//! The exported wrappers.
//!
//! Each is a C function of the driver's own name. It calls the real function exactly once, with the program's
//! arguments, and returns its result; our part runs before and after, and can neither fail nor unwind into it.

mod arrays;
mod capture;
mod contexts;
mod copies;
mod fills;
mod graphs;
mod handles;
mod inject;
mod launches;
mod loader;
mod memory;
mod rows;
mod shared;
mod streams;
mod updates;
mod words;

/// Defines wrappers and `TABLE`, which the loader searches.
macro_rules! hooks {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {
        $(
            #[cfg_attr(not(test), unsafe(no_mangle))]
            #[allow(non_snake_case)]
            unsafe extern "C" fn $name($($argument: $type),*) -> $crate::driver::CUresult $body
        )*
        /// Names and wrappers.
        pub(super) static TABLE: &[$crate::hooks::Hook] = &[
            $($crate::hooks::Hook {
                name: match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => c"",
                },
                wrapper: $name as *const (),
            },)*
        ];
    };
}
use hooks;

/// The real call of a wrapper.
macro_rules! real {
    ($call:expr) => {
        // SAFETY: the program's own arguments go to the real function unchanged.
        unsafe { $call }
    };
}
use real;

/// A wrapper by its name.
struct Hook {
    name: &'static std::ffi::CStr,
    wrapper: *const (),
}

// SAFETY: the pointer is the address of a function.
unsafe impl Sync for Hook {}

/// What stream 0 means to a function without a suffix.
fn legacy(stream: crate::driver::CUstream) -> crate::driver::CUstream {
    if stream == 0 { crate::driver::STREAM_LEGACY } else { stream }
}

/// What stream 0 means to a `_ptsz` function.
fn per_thread(stream: crate::driver::CUstream) -> crate::driver::CUstream {
    if stream == 0 { crate::driver::STREAM_PER_THREAD } else { stream }
}
