//! The floating-point control register, which any library in the process may have changed.

use crate::Error;

/// MXCSR: flush to zero (bit 15), rounding mode (14, 13), denormals are zero (6).
#[cfg(target_arch = "x86_64")]
const FORBIDDEN: u64 = 0xe040;

/// FPCR: alternative half precision (bit 26), flush to zero (24), rounding mode (23, 22), flush half
/// precision to zero (19), alternate handling (1), flush inputs to zero (0).
#[cfg(target_arch = "aarch64")]
const FORBIDDEN: u64 = 0x05c8_0003;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const FORBIDDEN: u64 = 0;

/// Checks that the calling thread rounds to nearest even and flushes nothing to zero. There is nothing
/// to check on architectures that this module does not know, and under Miri, which has no such register.
///
/// # Errors
/// [`Error::FloatEnvironment`] with the register's value.
pub(super) fn check() -> Result<(), Error> {
    let found = control_register();
    if found & FORBIDDEN == 0 { Ok(()) } else { Err(Error::FloatEnvironment { found }) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn control_register() -> u64 {
    let mut mxcsr = 0u32;
    // SAFETY: stores the four bytes of MXCSR to a live variable; SSE is part of x86-64.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags)) };
    mxcsr.into()
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
fn control_register() -> u64 {
    let fpcr: u64;
    // SAFETY: reads a register that user mode may read.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
    fpcr
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn control_register() -> u64 {
    0
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
pub(super) mod tests {
    use super::*;
    use crate::CpuBackend;

    /// Runs `body` in a thread of its own whose MXCSR has `bits` set.
    pub(in crate::cpu) fn with_mxcsr_bits<R: Send>(bits: u32, body: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let old = control_register() as u32;
                let set = |mxcsr: u32| {
                    // SAFETY: only defined bits are set, exceptions stay masked, and the thread does no
                    // arithmetic on floats before the old value is back.
                    unsafe {
                        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const mxcsr, options(nostack, readonly));
                    }
                };
                set(old | bits);
                let result = body();
                set(old);
                result
            });
            thread.join().expect("the body does not panic")
        })
    }

    #[test]
    fn a_changed_environment_is_an_error() {
        assert!(CpuBackend::new().is_ok());
        for (what, bits) in [("flush", 1 << 15), ("denormals", 1 << 6), ("up", 2 << 13), ("to zero", 3 << 13)]
        {
            let made = with_mxcsr_bits(bits, || CpuBackend::new().map(drop));
            match made {
                Err(Error::FloatEnvironment { found }) => {
                    assert_eq!(found & u64::from(bits), u64::from(bits), "{what}");
                }
                other => panic!("{what}: {other:?}"),
            }
        }
    }
}
