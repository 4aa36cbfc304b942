//! The header of a `.npy` array: its magic number, version, and a Python dict literal.

use std::io::{self, Read};

use py_literal::Value;
use twinstep_traces::DType;

use super::array::{ArrayHeader, Element};

/// The longest header that is read; NumPy's own are below 200 bytes.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Brackets within brackets that are followed; a plain array's header has two.
const DEPTH_MAX: usize = 8;

/// Axes of an array at most, which is NumPy's own limit.
const AXES_MAX: usize = 64;

/// What every array begins with.
pub(super) const SIGNATURE: &[u8; 6] = b"\x93NUMPY";

/// Why an array is not read, in words.
#[derive(Debug)]
pub(super) enum HeaderError {
    /// It is no whole array.
    Damaged(String),
    /// It is one, of a kind that is not read.
    Kind(String),
}

impl HeaderError {
    pub(super) fn into_words(self) -> String {
        let (HeaderError::Damaged(what) | HeaderError::Kind(what)) = self;
        what
    }
}

/// Reads the header and leaves the reader at the array's first byte.
///
/// # Errors
/// The reader failed, or this is no array that is read.
pub(super) fn read_header(reader: &mut impl Read) -> Result<ArrayHeader, HeaderError> {
    let text = read_text(reader).map_err(HeaderError::Damaged)?;
    parse(&text)
}

fn read_text(reader: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut start = [0; 8];
    exact(reader, &mut start)?;
    if start[..6] != *SIGNATURE {
        return Err("no NumPy array: it does not begin with the signature of one".to_owned());
    }
    let length = match start[6] {
        1 => {
            let mut length = [0; 2];
            exact(reader, &mut length)?;
            usize::from(u16::from_le_bytes(length))
        }
        2 | 3 => {
            let mut length = [0; 4];
            exact(reader, &mut length)?;
            u32::from_le_bytes(length) as usize
        }
        version => return Err(format!("version {version} of the .npy format is not known")),
    };
    if length > HEADER_BYTES_MAX {
        return Err(format!(
            "its header claims {length} bytes, more than the {HEADER_BYTES_MAX} that are read"
        ));
    }
    let mut text = vec![0; length];
    exact(reader, &mut text)?;
    Ok(text)
}

fn exact(reader: &mut impl Read, bytes: &mut [u8]) -> Result<(), String> {
    reader.read_exact(bytes).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut short: it ends within its header".to_owned(),
        _ => e.to_string(),
    })
}

fn parse(text: &[u8]) -> Result<ArrayHeader, HeaderError> {
    let damaged = |what: &str| HeaderError::Damaged(what.to_owned());
    let strange = || damaged("its header is no dict of descr, fortran_order and shape");
    let mut depth = 0usize;
    for byte in text {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        // The parser of literals calls itself for each bracket.
        if depth > DEPTH_MAX {
            return Err(strange());
        }
    }
    let text = str::from_utf8(text).map_err(|_| strange())?;
    let Ok(Value::Dict(entries)) = text.trim().parse::<Value>() else { return Err(strange()) };
    let entry = |name: &str| {
        let mut of_name = entries.iter().filter(|(key, _)| matches!(key, Value::String(key) if key == name));
        of_name.next().map(|(_, value)| value)
    };
    let element = match entry("descr") {
        Some(Value::String(descr)) => element(descr).map_err(HeaderError::Kind)?,
        Some(_) => {
            let what = "its elements are records (a structured dtype); save each field by itself";
            return Err(HeaderError::Kind(what.to_owned()));
        }
        None => return Err(strange()),
    };
    let Some(Value::Boolean(fortran)) = entry("fortran_order") else { return Err(strange()) };
    let Some(Value::Tuple(axes) | Value::List(axes)) = entry("shape") else { return Err(strange()) };
    if axes.len() > AXES_MAX {
        return Err(HeaderError::Kind(format!("it has {} axes, more than {AXES_MAX}", axes.len())));
    }
    let axis = |axis: &Value| match axis {
        Value::Integer(n) => u64::try_from(n.clone()).ok(),
        _ => None,
    };
    let shape = axes.iter().map(axis).collect::<Option<Vec<u64>>>();
    let shape =
        shape.ok_or_else(|| damaged("its shape holds something other than numbers from 0 to 2^64"))?;
    Ok(ArrayHeader { element, shape, fortran: *fortran })
}

/// The type that a `descr` such as `<f4` names.
fn element(descr: &str) -> Result<Element, String> {
    let unknown = || format!("element type `{descr}` is not known; save it as a numeric type");
    let mut characters = descr.chars();
    let (order, kind) = match (characters.next(), characters.next()) {
        (Some(order @ ('<' | '>' | '|' | '=')), Some(kind)) => (order, kind),
        _ => return Err(unknown()),
    };
    if kind == 'O' {
        return Err("it holds Python objects, which are pickled and not read: a pickle runs code; \
                    save numbers, one array for each"
            .to_owned());
    }
    let size: u64 = characters.as_str().parse().map_err(|_| unknown())?;
    let bits = 8 * size.min(1 << 20);
    let mut element = match (kind, size) {
        ('b', 1) => Element::named(DType::Bool),
        ('u', 1) => Element::named(DType::U8),
        ('u', 4) => Element::named(DType::U32),
        ('u', 8) => Element::named(DType::U64),
        ('i', 4) => Element::named(DType::I32),
        ('i', 8) => Element::named(DType::I64),
        ('f', 2) => Element::named(DType::F16),
        ('f', 4) => Element::named(DType::F32),
        // NumPy itself has none of this size; of ml_dtypes' types only this one is no void to it.
        ('f', 1) => Element::opaque("float8_e5m2", size),
        ('i', 1 | 2) => Element::opaque(format!("int{bits}"), size),
        ('u', 2) => Element::opaque(format!("uint{bits}"), size),
        ('f', 8 | 12 | 16) => Element::opaque(format!("float{bits}"), size),
        ('c', 8 | 16 | 24 | 32) => Element::opaque(format!("complex{bits}"), size),
        // What NumPy makes of a type that it does not know, such as the bfloat16 of ml_dtypes.
        ('V', 1 | 2 | 4 | 8 | 16) => Element::opaque(format!("void{bits}"), size),
        _ => return Err(unknown()),
    };
    if order == '>' && kind != 'V' {
        element.swap = (if kind == 'c' { size / 2 } else { size }) as usize;
    }
    Ok(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<ArrayHeader, String> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        read_header(&mut &bytes[..]).map_err(HeaderError::into_words)
    }

    #[test]
    fn what_numpy_writes_is_understood() {
        let found = header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n").unwrap();
        assert_eq!(
            found,
            ArrayHeader { element: Element::named(DType::F32), shape: vec![3, 4], fortran: false }
        );
        let scalar = header("{'descr': '>i8', 'fortran_order': True, 'shape': (), }").unwrap();
        assert_eq!((scalar.element.swap, scalar.shape.len(), scalar.stored_shape()), (8, 0, vec![]));
        let complex = header("{'descr': '>c16', 'fortran_order': False, 'shape': (2,)}").unwrap();
        assert_eq!((complex.element.swap, complex.element.name()), (8, "complex128"));
        assert_eq!(complex.stored_shape(), [2, 16]);
        let bf16 = header("{'descr': '|V2', 'fortran_order': False, 'shape': (2,)}").unwrap();
        assert_eq!((bf16.element.name(), bf16.element.bytes), ("void16", 2));
        let e5m2 = header("{'descr': '<f1', 'fortran_order': False, 'shape': (2,)}").unwrap();
        assert_eq!((e5m2.element.name(), e5m2.element.bytes), ("float8_e5m2", 1));
    }

    #[test]
    fn what_is_no_plain_array_is_refused() {
        let with = |descr: &str, shape: &str| {
            header(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")).unwrap_err()
        };
        assert!(with("'|O'", "(1,)").contains("Python objects"));
        assert!(with("'<U4'", "(1,)").contains("`<U4` is not known"));
        assert!(with("'<M8[s]'", "(1,)").contains("is not known"));
        assert!(with("'f4'", "(1,)").contains("`f4` is not known"));
        assert!(with("[('a', '<f4')]", "(1,)").contains("records"));
        assert!(with("'<f4'", "(-1,)").contains("shape"));
        assert!(with("'<f4'", "(18446744073709551616,)").contains("shape"));
        assert!(with("'<f4'", &format!("({})", "1,".repeat(65))).contains("65 axes"));
        assert!(with("'<f4'", &"(".repeat(30_000)).contains("header"));
        assert!(header("").unwrap_err().contains("header"));
        assert!(header("{'descr': '<f4'").unwrap_err().contains("header"));
        let mut huge = b"\x93NUMPY\x02\x00".to_vec();
        huge.extend(u32::MAX.to_le_bytes());
        let damaged = |bytes: &[u8]| read_header(&mut &bytes[..]).unwrap_err().into_words();
        assert!(damaged(&huge).contains("claims 4294967295 bytes"));
        assert!(damaged(&huge[..7]).contains("cut short"));
    }

    /// A product of axes that no number holds is the caller's to see, not a panic.
    #[test]
    fn a_shape_beyond_all_memory_has_no_size() {
        let text = "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}";
        assert_eq!(header(text).unwrap().bytes(), None);
    }
}
