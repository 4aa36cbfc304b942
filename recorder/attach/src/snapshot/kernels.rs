//! The snapshot kernels in a context of the program's.

use std::ffi::{CStr, CString, c_void};

use crate::driver::{self, CUfunction, CUstream};

/// PTX of `cuda/snapshot.cu`, for compute capability 7.0 and later. `twinstep-kernels`' example `ptx` builds and
/// checks it.
const PTX: &str = include_str!("../../ptx/snapshot.ptx");

/// Words that one `table_write` carries by value.
const WORDS: usize = 480;

/// Threads a block of every kernel here.
const THREADS: u32 = 128;

/// The kernels of one context.
#[derive(Debug)]
pub struct Kernels {
    table_write: CUfunction,
    table_open: CUfunction,
    snapshot: CUfunction,
}

/// What `snapshot` is given beside its table.
#[derive(Debug, Clone, Copy)]
pub struct Lane {
    /// Device address of the fingerprints of chunks (`cuda/snapshot.cu`).
    pub known: u64,
    /// Device address of `Control`.
    pub control: u64,
    /// Device address of the host's count of empty slots.
    pub tail: u64,
    /// Device address of the heads of slots.
    pub ring: u64,
    /// Device address of the bytes of slots.
    pub payload: u64,
    /// How many slots.
    pub slots: u32,
}

/// Which blocks of a table a snapshot works on: those below `always`, and `blocks` from `slice` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub always: u32,
    pub slice: u32,
    pub blocks: u32,
}

impl Kernels {
    /// Loads the module into the current context. The driver compiles it for the device at hand.
    ///
    /// # Errors
    /// The driver refuses it.
    pub fn load() -> Result<Self, String> {
        let text = CString::new(PTX).map_err(|_| "the PTX holds a zero byte".to_owned())?;
        let mut module = 0;
        // SAFETY: `text` is a NUL-terminated PTX image; the module is kept for the life of its context.
        let status = unsafe { driver::cuModuleLoadData(&mut module, text.as_ptr().cast()) };
        if status != driver::SUCCESS {
            return Err(format!("the driver does not load the snapshot kernel (error {status})"));
        }
        let function = |name: &CStr| {
            let mut function = 0;
            // SAFETY: a module that was just loaded and a NUL-terminated name.
            let status = unsafe { driver::cuModuleGetFunction(&mut function, module, name.as_ptr()) };
            if status == driver::SUCCESS {
                return Ok(function);
            }
            Err(format!(
                "the driver does not find {} in the snapshot kernels (error {status})",
                name.to_string_lossy()
            ))
        };
        Ok(Self {
            table_write: function(c"table_write")?,
            table_open: function(c"table_open")?,
            snapshot: function(c"snapshot")?,
        })
    }

    /// Enqueues a table's words and what follows from them: which block works on which entry, and that nothing is known of new ones.
    ///
    /// # Errors
    /// The driver refuses a launch.
    pub fn write_table(
        &self,
        stream: CUstream,
        (entries, blocks, known): (u64, u64, u64),
        words: &[u64],
        entry_words: usize,
    ) -> Result<(), String> {
        for (part, words) in words.chunks(WORDS).enumerate() {
            let mut block = [0u64; WORDS];
            block[..words.len()].copy_from_slice(words);
            let (to, count) = (entries + (part * WORDS * 8) as u64, words.len() as u32);
            launch(self.table_write, 1, stream, &mut [arg(&to), arg(&block), arg(&count)])?;
        }
        let grid = (words.len() / entry_words) as u32;
        launch(self.table_open, grid, stream, &mut [arg(&entries), arg(&blocks), arg(&known)])
    }

    /// Enqueues a snapshot: launch `number` of its lane. Its kernel waits `patience` ns at most for the host to
    /// empty slots.
    ///
    /// # Errors
    /// The driver refuses the launch.
    pub fn snapshot(
        &self,
        stream: CUstream,
        lane: &Lane,
        (entries, entry_of_block): (u64, u64),
        look: Look,
        (publication, number): (u64, u64),
        patience: u64,
    ) -> Result<(), String> {
        let mut args = [
            arg(&entries),
            arg(&entry_of_block),
            arg(&lane.known),
            arg(&lane.control),
            arg(&lane.tail),
            arg(&lane.ring),
            arg(&lane.payload),
            arg(&lane.slots),
            arg(&publication),
            arg(&number),
            arg(&patience),
            arg(&look.always),
            arg(&look.slice),
        ];
        launch(self.snapshot, look.always + look.blocks, stream, &mut args)
    }
}

fn arg<T>(value: &T) -> *mut c_void {
    std::ptr::from_ref(value).cast_mut().cast()
}

fn launch(function: CUfunction, grid: u32, stream: CUstream, args: &mut [*mut c_void]) -> Result<(), String> {
    // SAFETY: `args` points to one value of the right size for each parameter of the kernel (`cuda/snapshot.cu`);
    // the driver copies them before it returns.
    let status = unsafe {
        driver::cuLaunchKernel(
            function,
            grid,
            1,
            1,
            THREADS,
            1,
            1,
            0,
            stream,
            args.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    };
    if status == driver::SUCCESS {
        Ok(())
    } else {
        Err(format!("the driver refuses a snapshot (error {status})"))
    }
}

#[cfg(test)]
mod tests {
    use super::PTX;

    /// Types of a kernel's parameters as the PTX declares them.
    fn parameters(kernel: &str) -> Vec<&'static str> {
        let from = PTX.split_once(&format!(".visible .entry {kernel}(\n")).unwrap().1;
        let list = from.split_once(')').unwrap().0;
        list.lines().filter_map(|line| line.trim().strip_prefix(".param .")?.split(' ').next()).collect()
    }

    #[test]
    fn launches_give_what_the_kernels_take() {
        assert_eq!(parameters("table_write"), ["u64", "align", "u32"]);
        assert!(PTX.contains(".b8 table_write_param_1[3840]"), "480 words by value");
        assert_eq!(parameters("table_open"), ["u64"; 3]);
        let lane = ["u64"; 7].into_iter().chain(["u32"]).chain(["u64"; 3]).chain(["u32"; 2]);
        assert_eq!(parameters("snapshot"), lane.collect::<Vec<_>>());
    }
}
