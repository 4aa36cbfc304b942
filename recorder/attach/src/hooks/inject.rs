//! The second way in: the driver loads the library that `CUDA_INJECTION64_PATH` names from within `cuInit`, where
//! `LD_PRELOAD` did not reach the process.
//!
//! The program has got functions of the driver by then, so pointers to them are exchanged where they lie: in the
//! slots of modules that link the driver or `dlsym`, found by their relocations, and in static data (the CUDA
//! runtime keeps a table), found by value. Pointers on a heap are not found. Functions that are asked for later come
//! through `dlsym` and `cuGetProcAddress`, whose pointers are exchanged too; two more looks are taken a little later
//! for what had no pointer anywhere at that moment.

use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::attached::this_thread_is_ours;
use crate::driver;

/// Pauses before the later looks.
const LATER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
const PAGE: usize = 4096;

/// What pointers are exchanged for.
struct Exchange {
    by_address: HashMap<usize, usize>,
    by_name: HashMap<&'static CStr, usize>,
    /// An address of this library: our own data stays as it is.
    own: usize,
}

/// Exchanges pointers, unless the loader has put us before everything anyway.
pub(super) fn take_hold() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if preloaded() || std::env::var_os("TWINSTEP_ATTACH_OUT").is_none() || DONE.swap(true, Ordering::Relaxed)
    {
        return;
    }
    look();
    // Without that thread only what comes later in odd ways is missed.
    let _ = std::thread::Builder::new().name("twinstep-late".to_owned()).spawn(|| {
        this_thread_is_ours();
        for pause in LATER {
            std::thread::sleep(pause);
            look();
        }
    });
}

/// Whether names that we export are found first by everyone.
fn preloaded() -> bool {
    // RTLD_DEFAULT would also look in the scope of who asks, and that is this library itself.
    // SAFETY: the program's own scope, a constant name.
    let found = unsafe {
        let program = libc::dlopen(std::ptr::null(), libc::RTLD_LAZY);
        driver::real_dlsym()(program, c"InitializeInjection".as_ptr())
    };
    found == super::loader::InitializeInjection as *mut c_void
}

fn look() {
    let mut exchange = Exchange {
        by_address: HashMap::new(),
        by_name: HashMap::new(),
        own: take_hold as *const () as usize,
    };
    for hook in super::loader::tables().into_iter().flatten() {
        exchange.by_name.insert(hook.name, hook.wrapper as usize);
        if let Some(real) = driver::address(hook.name) {
            exchange.by_address.insert(real as usize, hook.wrapper as usize);
        }
    }
    #[cfg(not(test))]
    exchange.by_name.insert(c"dlsym", super::loader::dlsym as *const () as usize);
    // SAFETY: the callback gets the pointer that it is given here, during this call only.
    unsafe { libc::dl_iterate_phdr(Some(module), (&raw mut exchange).cast()) };
}

/// One loaded module.
unsafe extern "C" fn module(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
    // SAFETY: the loader lends the record and its headers for this call; `data` is `look`'s.
    let (info, exchange) = unsafe { (&*info, &*data.cast::<Exchange>()) };
    let name = if info.dlpi_name.is_null() {
        c""
    } else {
        // SAFETY: the loader's string.
        unsafe { CStr::from_ptr(info.dlpi_name) }
    };
    let name = name.to_string_lossy();
    let base = info.dlpi_addr as usize;
    // SAFETY: as many headers as the loader says.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let range = |h: &libc::Elf64_Phdr| base + h.p_vaddr as usize..base + (h.p_vaddr + h.p_memsz) as usize;
    let own = headers.iter().any(|h| h.p_type == libc::PT_LOAD && range(h).contains(&exchange.own));
    let system = ["libcuda.so", "ld-linux", "libc.so", "linux-vdso"].iter().any(|part| name.contains(part));
    if own || system {
        return 0;
    }
    let sealed = headers.iter().find(|h| h.p_type == libc::PT_GNU_RELRO).map(range).unwrap_or(0..0);
    if let Some(dynamic) = headers.iter().find(|h| h.p_type == libc::PT_DYNAMIC) {
        // SAFETY: the module's dynamic section is mapped as long as the module is.
        unsafe { slots(base, range(dynamic).start, &sealed, exchange) };
    }
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W != 0) {
        let mut at = range(header).start.next_multiple_of(8);
        let end = range(header).end;
        while at + 8 <= end {
            // SAFETY: within a mapped, readable segment, aligned.
            let word = unsafe { AtomicUsize::from_ptr(at as *mut usize) };
            if let Some(&ours) = exchange.by_address.get(&word.load(Ordering::Relaxed)) {
                // SAFETY: as above.
                unsafe { write(at, ours, &sealed) };
            }
            at += 8;
        }
    }
    0
}

/// An entry of a dynamic section.
#[repr(C)]
struct Dynamic {
    tag: i64,
    value: u64,
}

/// A relocation with an addend.
#[repr(C)]
struct Relocation {
    offset: u64,
    info: u64,
    addend: i64,
}

/// `DT_PLTRELSZ`, `DT_STRTAB`, `DT_SYMTAB`, `DT_RELA`, `DT_RELASZ`, `DT_JMPREL`.
const TAGS: [i64; 6] = [2, 5, 6, 7, 8, 23];
/// `R_X86_64_GLOB_DAT`, `R_X86_64_JUMP_SLOT`.
const SLOTS: [u64; 2] = [6, 7];

/// Exchanges the slots through which a module calls functions of ours by name.
unsafe fn slots(base: usize, dynamic: usize, sealed: &std::ops::Range<usize>, exchange: &Exchange) {
    let mut values = [0usize; 6];
    let mut entry = dynamic as *const Dynamic;
    // SAFETY: the section ends with an entry of tag 0.
    unsafe {
        while (*entry).tag != 0 {
            if let Some(i) = TAGS.iter().position(|&tag| tag == (*entry).tag) {
                values[i] = (*entry).value as usize;
            }
            entry = entry.add(1);
        }
    }
    let [plt_bytes, strings, symbols, relocations, bytes, plt] = values;
    // The loader has added the base to addresses, but not where the section can't be written.
    let absolute = |at: usize| if at < base { at + base } else { at };
    if strings == 0 || symbols == 0 {
        return;
    }
    let (strings, symbols) = (absolute(strings), absolute(symbols) as *const libc::Elf64_Sym);
    for (table, bytes) in [(plt, plt_bytes), (relocations, bytes)] {
        if table == 0 {
            continue;
        }
        let table = absolute(table) as *const Relocation;
        for i in 0..bytes / size_of::<Relocation>() {
            // SAFETY: the section says where the tables are and how long; strings end in NUL.
            let (relocation, name) = unsafe {
                let relocation = &*table.add(i);
                if !SLOTS.contains(&(relocation.info & 0xffff_ffff)) {
                    continue;
                }
                let symbol = &*symbols.add((relocation.info >> 32) as usize);
                (relocation, CStr::from_ptr((strings + symbol.st_name as usize) as *const _))
            };
            if let Some(&ours) = exchange.by_name.get(name) {
                // SAFETY: the loader writes this slot itself.
                unsafe { write(base + relocation.offset as usize, ours, sealed) };
            }
        }
    }
}

/// Writes one word, where the loader has sealed its page too.
unsafe fn write(at: usize, value: usize, sealed: &std::ops::Range<usize>) {
    if !at.is_multiple_of(8) {
        return;
    }
    let page = (at & !(PAGE - 1)) as *mut c_void;
    let closed = sealed.contains(&at);
    // SAFETY: the page is the module's own data; its protection is put back.
    unsafe {
        if closed && libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE) != 0 {
            return;
        }
        AtomicUsize::from_ptr(at as *mut usize).store(value, Ordering::Release);
        if closed {
            libc::mprotect(page, PAGE, libc::PROT_READ);
        }
    }
}
