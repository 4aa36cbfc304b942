//! Kernels: their names, dimensions and parameter bytes.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, PoisonError};

use super::{Kernel, Node};
use crate::driver::{
    self, ATTRIBUTE_CLUSTER_DIMENSION, CUfunction, CUgraphNode, KernelNodeParams, NOT_FOUND, SUCCESS,
};

/// Parameters of one kernel that are read; the driver itself allows 32764 bytes.
const MAX_PARAMETERS: usize = 8192;

/// Names longer than this are cut: templates of templates.
const MAX_NAME: usize = 4096;

/// Symbols kept demangled.
const MAX_SYMBOLS: usize = 8192;

/// Words of `extra` (`CU_LAUNCH_PARAM_*`).
const BUFFER_POINTER: usize = 1;
const BUFFER_SIZE: usize = 2;

/// A kernel node.
pub fn node(node: CUgraphNode, troubles: &mut Vec<String>) -> Node {
    // SAFETY: plain numbers and pointers, for which zeros are valid.
    let mut p: KernelNodeParams = unsafe { std::mem::zeroed() };
    // SAFETY: a kernel node, and a place for the answer.
    let status = unsafe { driver::cuGraphKernelNodeGetParams_v2(node, &mut p) };
    if status != SUCCESS {
        return Node::Other(format!("kernel that the driver does not describe (error {status})"));
    }
    // SAFETY: the node owns what the pointers lead to, and the graph is alive.
    let mut kernel = unsafe { described(&p, troubles) };
    let mut cluster = [0; 16];
    // SAFETY: a kernel node; the value of an attribute has 64 bytes.
    let status = unsafe {
        driver::cuGraphKernelNodeGetAttribute(node, ATTRIBUTE_CLUSTER_DIMENSION as i32, &mut cluster)
    };
    if status == SUCCESS {
        kernel.cluster.copy_from_slice(&cluster[..3]);
    }
    Node::Kernel(kernel)
}

/// A kernel as a node is given one, without its attributes.
///
/// # Safety
/// The pointers in `p` are what the driver takes for this kernel: null, or valid.
pub unsafe fn described(p: &KernelNodeParams, troubles: &mut Vec<String>) -> Kernel {
    // SAFETY: as the caller says.
    let parameters = match unsafe { parameters(p.func, p.kern, p.kernel_params, p.extra) } {
        Ok(parameters) => parameters,
        Err(trouble) => {
            troubles.push(trouble);
            Vec::new()
        }
    };
    Kernel {
        name: name(p.func, p.kern),
        grid: p.grid,
        block: p.block,
        cluster: [0; 3],
        shared_bytes: p.shared_bytes,
        parameters,
    }
}

/// A kernel's demangled name, by its function, or its kernel handle where it has no function.
pub fn name(function: CUfunction, kernel: usize) -> String {
    let mut symbol: *const c_char = std::ptr::null();
    let mut status = NOT_FOUND;
    if function != 0 {
        // SAFETY: a handle that the driver gave, and a place for the answer.
        status = unsafe { driver::cuFuncGetName(&mut symbol, function) };
    }
    if status != SUCCESS && kernel != 0 {
        // SAFETY: as above.
        status = unsafe { driver::cuKernelGetName(&mut symbol, kernel) };
    }
    if status != SUCCESS || symbol.is_null() {
        return "kernel whose name the driver does not tell".to_owned();
    }
    // SAFETY: the driver's own string, which lives as long as the module.
    let symbol = unsafe { CStr::from_ptr(symbol) };
    demangled(&symbol.to_string_lossy())
}

/// Whether the driver knows a handle as a function, and not as a kernel of a library, which may stand in its place.
pub fn is_function(handle: CUfunction) -> bool {
    let mut symbol: *const c_char = std::ptr::null();
    // SAFETY: a handle that the program launches, and a place for the answer.
    unsafe { driver::cuFuncGetName(&mut symbol, handle) == SUCCESS }
}

/// A symbol as people write it; one that is not mangled as it is.
fn demangled(symbol: &str) -> String {
    static KNOWN: Mutex<Option<HashMap<String, String>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(name) = known.get(symbol) {
        return name.clone();
    }
    let name = cpp_demangle::Symbol::new(symbol).ok().and_then(|parsed| parsed.demangle().ok());
    let mut name = name.unwrap_or_else(|| symbol.to_owned());
    if name.len() > MAX_NAME {
        let end = (0..=MAX_NAME).rev().find(|&at| name.is_char_boundary(at)).unwrap_or(0);
        name.truncate(end);
        name.push_str("...");
    }
    if known.len() >= MAX_SYMBOLS {
        known.clear();
    }
    known.insert(symbol.to_owned(), name.clone());
    name
}

/// The bytes of each parameter.
///
/// # Safety
/// `params` and `extra` are what the driver's launch functions take for this kernel: null, or valid.
///
/// # Errors
/// The driver does not tell the sizes of parameters.
pub unsafe fn parameters(
    function: CUfunction,
    kernel: usize,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Result<Vec<Vec<u8>>, String> {
    let places = places(function, kernel)?;
    let mut parameters = Vec::with_capacity(places.len());
    // SAFETY: as the caller says.
    let packed = if params.is_null() { unsafe { packed(extra) } } else { None };
    for (index, (offset, bytes)) in places.into_iter().enumerate() {
        let value: *const u8 = match packed {
            Some((start, length)) if offset.saturating_add(bytes) <= length => start.wrapping_add(offset),
            _ if params.is_null() => break,
            // SAFETY: one pointer a parameter.
            _ => unsafe { *params.add(index) }.cast_const().cast(),
        };
        if value.is_null() {
            break;
        }
        // SAFETY: it points to a value of that size.
        parameters.push(unsafe { std::slice::from_raw_parts(value, bytes) }.to_vec());
    }
    Ok(parameters)
}

/// Offset and size of each parameter.
fn places(function: CUfunction, kernel: usize) -> Result<Vec<(usize, usize)>, String> {
    let mut places = Vec::new();
    while places.len() < MAX_PARAMETERS {
        let (mut offset, mut bytes) = (0, 0);
        let mut status = NOT_FOUND;
        if function != 0 {
            // SAFETY: a handle that the driver gave, and places for the answers.
            status = unsafe { driver::cuFuncGetParamInfo(function, places.len(), &mut offset, &mut bytes) };
        }
        if status != SUCCESS && kernel != 0 {
            // SAFETY: as above.
            status = unsafe { driver::cuKernelGetParamInfo(kernel, places.len(), &mut offset, &mut bytes) };
        }
        match status {
            SUCCESS => places.push((offset, bytes)),
            NOT_FOUND => {
                return Err(
                    "the driver does not tell the sizes of kernels' parameters (it is older than 12.4): \
                     their bytes are not recorded"
                        .to_owned(),
                );
            }
            _ => break,
        }
    }
    Ok(places)
}

/// Parameters packed by the program itself: where they are and how many bytes.
///
/// # Safety
/// `extra` is null or a list of `CU_LAUNCH_PARAM_*` words and values that ends in 0.
unsafe fn packed(extra: *mut *mut c_void) -> Option<(*const u8, usize)> {
    if extra.is_null() {
        return None;
    }
    let (mut start, mut length) = (None, None);
    for pair in 0..8 {
        // SAFETY: the list has not ended.
        let what = unsafe { *extra.add(2 * pair) } as usize;
        if what == 0 {
            break;
        }
        // SAFETY: each word is followed by its value.
        let value = unsafe { *extra.add(2 * pair + 1) };
        match what {
            BUFFER_POINTER => start = Some(value.cast_const().cast::<u8>()),
            // SAFETY: this value is a pointer to a size.
            BUFFER_SIZE if !value.is_null() => length = Some(unsafe { *value.cast::<usize>() }),
            _ => {}
        }
    }
    Some((start?, length?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_demangled_and_others_stay() {
        assert_eq!(demangled("_ZN2at6native4copyEPfi"), "at::native::copy(float*, int)");
        assert_eq!(demangled("triton_poi_fused_0"), "triton_poi_fused_0");
        assert_eq!(demangled("_ZN2at6native4copyEPfi"), "at::native::copy(float*, int)");
    }

    #[test]
    fn packed_parameters_are_found() {
        let values = [1u8, 2, 3];
        let mut length = values.len();
        let mut extra = [
            BUFFER_POINTER as *mut c_void,
            values.as_ptr().cast_mut().cast(),
            BUFFER_SIZE as *mut c_void,
            std::ptr::from_mut(&mut length).cast(),
            std::ptr::null_mut(),
        ];
        // SAFETY: a list as the driver's documentation has it.
        assert_eq!(unsafe { packed(extra.as_mut_ptr()) }, Some((values.as_ptr(), 3)));
        // SAFETY: null is allowed.
        assert_eq!(unsafe { packed(std::ptr::null_mut()) }, None);
    }
}
