//! Dumps as another engine would make them: `.npy`, `.npz` and `.safetensors` files, byte by byte, and a
//! recorded trace's snapshots in their form.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use safetensors::tensor::TensorView;
use twinstep_traces::{BufferRecord, DType, Role, StepRecord, Trace};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A `.npy` file as NumPy writes it.
pub fn npy(descr: &str, fortran: bool, shape: &[u64], bytes: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let axes: String = shape.iter().map(|axis| format!("{axis},")).collect();
    npy_with(&format!("{{'descr': {descr:?}, 'fortran_order': {fortran}, 'shape': ({axes}), }}"), bytes)
}

/// A `.npy` file with any header.
pub fn npy_with(header: &str, bytes: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    file.extend((padded as u16).to_le_bytes());
    file.extend(format!("{header:<width$}\n", width = padded - 1).bytes());
    file.extend(bytes);
    file
}

/// `f32` values as a `.npy` file with this shape.
pub fn floats(shape: &[u64], values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    npy("<f4", false, shape, &bytes)
}

/// A `.npz` file of `.npy` members, stored like `numpy.savez` or packed like `numpy.savez_compressed`.
///
/// # Panics
/// Where it cannot be written.
pub fn npz(path: &Path, packed: bool, arrays: &[(&str, Vec<u8>)]) {
    let mut zip = ZipWriter::new(File::create(path).expect("a file"));
    let method = if packed { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    let options = SimpleFileOptions::default().compression_method(method);
    for (key, npy) in arrays {
        zip.start_file(format!("{key}.npy"), options).expect("a member");
        zip.write_all(npy).expect("a member");
    }
    zip.finish().expect("a file");
}

/// A `.safetensors` file.
///
/// # Panics
/// Where it cannot be written.
pub fn tensors(path: &Path, arrays: &[(String, safetensors::Dtype, Vec<usize>, Vec<u8>)]) {
    let views = arrays.iter().map(|(key, dtype, shape, bytes)| {
        (key, TensorView::new(*dtype, shape.clone(), bytes).expect("bytes that the shape takes"))
    });
    safetensors::serialize_to_file(views, None, path).expect("a file");
}

/// Writes what a trace's snapshots hold of those states, inputs and outputs whose names are `wanted`, before
/// and after steps 1 to `last` of each request: one file a step, with this extension.
///
/// # Panics
/// Where the trace cannot be read or a file not be written.
pub fn export(trace: &Trace, folder: &Path, extension: &str, last: u32, wanted: &dyn Fn(&str) -> bool) {
    fs::create_dir_all(folder).expect("a folder");
    for index in 0..trace.step_count() {
        let step = trace.step(index).expect("a step");
        if step.step == 0 || step.step > last {
            continue;
        }
        let mut arrays = held(trace, &step);
        arrays.retain(|(_, record, _)| wanted(&record.name));
        let path = folder.join(format!("r{}_step_{:04}.{extension}", step.request, step.step));
        match extension {
            "npz" => {
                let npys: Vec<(&str, Vec<u8>)> = arrays
                    .iter()
                    .map(|(key, record, bytes)| {
                        (key.as_str(), npy(descr(record.dtype), false, &record.shape, bytes))
                    })
                    .collect();
                npz(&path, step.step > 1, &npys);
            }
            _ => {
                let tensor = |(key, record, bytes): &(String, &BufferRecord, Vec<u8>)| {
                    let shape = record.shape.iter().map(|&axis| axis as usize).collect();
                    (key.clone(), dtype(record.dtype), shape, bytes.clone())
                };
                tensors(&path, &arrays.iter().map(tensor).collect::<Vec<_>>());
            }
        }
    }
}

/// Key, record and bytes of each buffer before and after a step.
fn held<'a>(trace: &'a Trace, step: &StepRecord) -> Vec<(String, &'a BufferRecord, Vec<u8>)> {
    let mut arrays = Vec::new();
    for point in &step.points {
        let suffix = match point.point.as_str() {
            "step.before" => ".before",
            "step.after" => "",
            _ => continue,
        };
        for id in trace.covered(point.snapshot).expect("a snapshot") {
            let Some(record) = trace.buffer(id) else { continue };
            if matches!(record.role, Role::State | Role::Input | Role::Output) {
                let bytes = trace.read_buffer(point.snapshot, id).expect("bytes").expect("covered");
                arrays.push((format!("{}{suffix}", record.name), record, bytes));
            }
        }
    }
    arrays
}

fn descr(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        // As ml_dtypes has it written.
        DType::Bf16 => "<V2",
        DType::I64 => "<i8",
        DType::I32 => "<i4",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::U8 => "|u1",
        DType::Bool => "|b1",
    }
}

fn dtype(dtype: DType) -> safetensors::Dtype {
    match dtype {
        DType::F32 => safetensors::Dtype::F32,
        DType::F16 => safetensors::Dtype::F16,
        DType::Bf16 => safetensors::Dtype::BF16,
        DType::I64 => safetensors::Dtype::I64,
        DType::I32 => safetensors::Dtype::I32,
        DType::U32 => safetensors::Dtype::U32,
        DType::U64 => safetensors::Dtype::U64,
        DType::U8 => safetensors::Dtype::U8,
        DType::Bool => safetensors::Dtype::BOOL,
    }
}
