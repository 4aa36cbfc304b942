//! The comparison of memory that `examples/gpu_parity` makes on a GPU, here between the two CPU forms.

#[path = "../examples/gpu_parity/memory.rs"]
mod memory;

#[allow(dead_code)]
#[path = "../examples/gpu_parity/random.rs"]
mod random;

use twinstep_kernels as kernels;
use twinstep_kernels::{CpuBackend, CpuForm, Stream};

#[test]
fn both_forms_see_the_same_memory() {
    let mut naive = Stream::new(Box::new(CpuBackend::with_form(CpuForm::Naive).unwrap()));
    let mut vector = Stream::new(Box::new(CpuBackend::with_form(CpuForm::Vector).unwrap()));
    assert!(memory::compare([&mut naive, &mut vector], 60, 1).unwrap());
}
