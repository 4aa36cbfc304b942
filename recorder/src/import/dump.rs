//! One file of dumped arrays, opened: what arrays it holds, and their bytes one array at a time.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use twinstep_traces::{DType, MAX_READ_BYTES};
use zip::{CompressionMethod, ZipArchive};

use super::array::{ArrayHeader, Element};
use super::error::ImportError;
use super::names::natural;
use super::npy::{HeaderError, SIGNATURE, read_header};

/// Bytes that all arrays of one file may have together, as it declares them. A zip file can
/// declare what it does not hold, and its arrays may share their bytes.
const FILE_BYTES_MAX: u64 = 64 << 30;

/// Deflate makes no more of a byte than this.
const DEFLATE_RATIO_MAX: u64 = 1032;

/// The longest header of a safetensors file, which is that library's own limit.
const TENSORS_HEADER_BYTES_MAX: u64 = 100_000_000;

/// Memory that is set aside for an array on the word of its header; more as its bytes arrive.
const RESERVED_BYTES_MAX: u64 = 16 << 20;

/// What a file is, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Npy,
    Npz,
    Safetensors,
}

impl Format {
    /// The format of files with an extension (without its dot), in any case.
    pub(super) fn of(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "npy" => Some(Format::Npy),
            "npz" => Some(Format::Npz),
            "safetensors" => Some(Format::Safetensors),
            _ => None,
        }
    }
}

/// An array of a file.
#[derive(Debug, Clone)]
pub(super) struct Array {
    /// Its name in the file; empty for the one of a `.npy`.
    pub(super) key: String,
    /// The name of a zip's member, with its extension.
    pub(super) member: String,
    pub(super) header: ArrayHeader,
    /// Where it is: the number of a zip's member, or the first byte in a safetensors file.
    place: u64,
}

/// What a file holds, in its own order.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) arrays: Vec<Array>,
    /// Keys of arrays of a kind that is not read, and why not.
    pub(super) refused: Vec<(String, String)>,
    /// Names of members that are no arrays.
    pub(super) others: Vec<String>,
}

/// An open file.
pub(super) struct Dump {
    path: PathBuf,
    content: Content,
}

enum Content {
    Npy(BufReader<File>),
    Npz(Box<ZipArchive<BufReader<File>>>),
    Safetensors(File),
}

impl Dump {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, or is no such file.
    pub(super) fn open(path: &Path, format: Format) -> Result<Self, ImportError> {
        let wrong = |what: String| ImportError::File { path: path.into(), what };
        let file = File::open(path).map_err(|e| wrong(e.to_string()))?;
        let content = match format {
            Format::Npy => Content::Npy(BufReader::new(file)),
            Format::Npz => {
                let archive = ZipArchive::new(BufReader::new(file));
                let archive =
                    archive.map_err(|e| wrong(format!("no whole .npz file: {e}; dump it again")))?;
                Content::Npz(Box::new(archive))
            }
            Format::Safetensors => Content::Safetensors(file),
        };
        Ok(Dump { path: path.into(), content })
    }

    /// What it holds.
    ///
    /// # Errors
    /// It is damaged, or claims more than is read.
    pub(super) fn list(&mut self) -> Result<Listing, ImportError> {
        let path = self.path.clone();
        let mut listing = match &mut self.content {
            Content::Npy(reader) => npy_array(&path, reader)?,
            Content::Npz(archive) => npz_arrays(&path, archive)?,
            Content::Safetensors(file) => tensors(&path, file)?,
        };
        let mut total = 0u64;
        let refused = &mut listing.refused;
        listing.arrays.retain(|array| {
            let bytes = array.header.bytes().filter(|&bytes| bytes <= MAX_READ_BYTES);
            total = total.saturating_add(bytes.unwrap_or(0));
            if bytes.is_none() {
                let (shape, name) = (&array.header.shape, array.header.element.name());
                let limit = MAX_READ_BYTES >> 30;
                let what =
                    format!("shape {shape:?} of {name} is more than the {limit} GiB that an array may have");
                refused.push((array.key.clone(), what));
            }
            bytes.is_some()
        });
        if total > FILE_BYTES_MAX {
            let what = format!("its arrays claim {total} bytes, more than {FILE_BYTES_MAX} for one file");
            return Err(ImportError::TooMuch { path, what });
        }
        Ok(listing)
    }

    /// The bytes of an array as a trace holds them.
    ///
    /// # Errors
    /// The file is cut short or damaged, or has changed since its arrays were listed.
    pub(super) fn read(&mut self, array: &Array) -> Result<Vec<u8>, ImportError> {
        let wrong =
            |what: String| ImportError::Array { path: self.path.clone(), array: array.key.clone(), what };
        let wanted = array.header.bytes().unwrap_or(u64::MAX);
        let bytes = match &mut self.content {
            Content::Npy(reader) => {
                reader.rewind().map_err(|e| wrong(e.to_string()))?;
                after_header(reader, array, wanted).map_err(wrong)?
            }
            Content::Npz(archive) => {
                let index = usize::try_from(array.place).unwrap_or(usize::MAX);
                let mut member = archive.by_index(index).map_err(|e| wrong(format!("damaged: {e}")))?;
                let bytes = after_header(&mut member, array, wanted).map_err(&wrong)?;
                // The member's checksum is compared where it ends.
                let rest = io::copy(&mut member.take(1), &mut io::sink())
                    .map_err(|e| wrong(format!("damaged: {e}")))?;
                if rest > 0 {
                    return Err(wrong("it is longer than its header says".to_owned()));
                }
                bytes
            }
            Content::Safetensors(file) => {
                file.seek(SeekFrom::Start(array.place)).map_err(|e| wrong(e.to_string()))?;
                exactly(file, wanted).map_err(wrong)?
            }
        };
        Ok(array.header.stored(bytes))
    }
}

fn after_header(reader: &mut impl Read, array: &Array, wanted: u64) -> Result<Vec<u8>, String> {
    if read_header(reader).map_err(HeaderError::into_words)? != array.header {
        return Err("the file changed while it was imported".to_owned());
    }
    exactly(reader, wanted)
}

fn exactly(reader: &mut impl Read, wanted: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(wanted.min(RESERVED_BYTES_MAX) as usize);
    reader.take(wanted).read_to_end(&mut bytes).map_err(|e| format!("damaged: {e}"))?;
    if bytes.len() as u64 != wanted {
        return Err(format!("it is cut short: {} of {wanted} bytes are there", bytes.len()));
    }
    Ok(bytes)
}

fn npy_array(path: &Path, reader: &mut BufReader<File>) -> Result<Listing, ImportError> {
    let wrong = |what: String| ImportError::File { path: path.into(), what };
    let header = match read_header(reader) {
        Ok(header) => header,
        Err(HeaderError::Damaged(what)) => return Err(wrong(what)),
        Err(HeaderError::Kind(what)) => {
            return Ok(Listing { refused: vec![(String::new(), what)], ..Listing::default() });
        }
    };
    let start = reader.stream_position().map_err(|e| wrong(e.to_string()))?;
    let length = reader.get_ref().metadata().map_err(|e| wrong(e.to_string()))?.len();
    check_length(&header, length.saturating_sub(start)).map_err(wrong)?;
    let array = Array { key: String::new(), member: String::new(), header, place: 0 };
    Ok(Listing { arrays: vec![array], ..Listing::default() })
}

/// Whether as many bytes are there as the header says.
fn check_length(header: &ArrayHeader, there: u64) -> Result<(), String> {
    match header.bytes() {
        Some(bytes) if bytes > there => Err(format!("it is cut short: {there} of {bytes} bytes are there")),
        Some(bytes) if bytes < there => {
            Err(format!("{} bytes follow its array; one array a .npy file is read", there - bytes))
        }
        // What has no size is refused as too large.
        _ => Ok(()),
    }
}

fn npz_arrays(path: &Path, archive: &mut ZipArchive<BufReader<File>>) -> Result<Listing, ImportError> {
    let mut listing = Listing::default();
    for index in 0..archive.len() {
        let wrong = |what: String| ImportError::File { path: path.into(), what };
        let mut member =
            archive.by_index(index).map_err(|e| wrong(format!("damaged: {e}; dump it again")))?;
        let name = member.name().map_err(|e| wrong(format!("a member without a readable name: {e}")))?;
        let name = name.into_owned();
        // What torch.save writes is a zip file too.
        if name == "data.pkl" || name.ends_with("/data.pkl") {
            return Err(ImportError::Pickle { path: path.into() });
        }
        let whole = name.clone();
        let (declared, packed) = (member.size(), member.compressed_size());
        let method = member.compression();
        let key = match name.strip_suffix(".npy") {
            Some(key) => key.to_owned(),
            // numpy.load goes by the signature where the name does not say it.
            None if readable(method) && signed(&mut member) => {
                drop(member);
                let again = archive.by_index(index);
                member = again.map_err(|e| wrong(format!("damaged: {e}; dump it again")))?;
                name
            }
            None => {
                listing.others.push(name);
                continue;
            }
        };
        if !readable(method) {
            let what = format!("compressed as {method}; numpy.savez does not do that");
            listing.refused.push((key, what));
            continue;
        }
        let possible = match method {
            CompressionMethod::Stored => packed == declared,
            _ => declared <= packed.saturating_mul(DEFLATE_RATIO_MAX).saturating_add(64),
        };
        if !possible {
            listing.refused.push((key, format!("{packed} bytes cannot hold the {declared} that it claims")));
            continue;
        }
        let header = match read_header(&mut member) {
            Ok(header) => header,
            Err(HeaderError::Damaged(what) | HeaderError::Kind(what)) => {
                listing.refused.push((key, what));
                continue;
            }
        };
        // What the header itself took is not known here; an array longer than its member is cut short.
        if let Some(bytes) = header.bytes().filter(|&bytes| bytes > declared) {
            let what = format!("it is cut short: {declared} of {bytes} bytes are there");
            listing.refused.push((key, what));
            continue;
        }
        listing.arrays.push(Array { key, member: whole, header, place: index as u64 });
    }
    Ok(listing)
}

fn readable(method: CompressionMethod) -> bool {
    matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated)
}

/// Whether an array's signature comes next.
fn signed(reader: &mut impl Read) -> bool {
    let mut start = [0; SIGNATURE.len()];
    reader.read_exact(&mut start).is_ok_and(|()| start == *SIGNATURE)
}

fn tensors(path: &Path, file: &mut File) -> Result<Listing, ImportError> {
    let wrong = |what: String| ImportError::File { path: path.into(), what };
    let cut = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => wrong("it is cut short: it ends within its header".to_owned()),
        _ => wrong(e.to_string()),
    };
    let length = file.metadata().map_err(|e| wrong(e.to_string()))?.len();
    let mut size = [0; 8];
    file.rewind().and_then(|()| file.read_exact(&mut size)).map_err(cut)?;
    let size = u64::from_le_bytes(size);
    if size > TENSORS_HEADER_BYTES_MAX {
        return Err(wrong(format!("no safetensors file: its header claims {size} bytes")));
    }
    let text = exactly(file, size).map_err(|what| wrong(format!("its header: {what}")))?;
    let metadata: Metadata =
        serde_json::from_slice(&text).map_err(|e| wrong(format!("no safetensors file: {e}")))?;
    let start = 8 + size;
    let there = length.saturating_sub(start);
    let mut listing = Listing::default();
    let mut last = 0;
    for key in metadata.offset_keys() {
        let Some(info) = metadata.info(&key) else { continue };
        let wrong = |what: String| ImportError::Array { path: path.into(), array: key.clone(), what };
        let (begin, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        last = last.max(end);
        if end > there {
            return Err(wrong(format!("the file is cut short: it ends at byte {there} of {end}")));
        }
        let element = match element(info.dtype) {
            Ok(element) => element,
            Err(what) => {
                listing.refused.push((key, what));
                continue;
            }
        };
        let shape = info.shape.iter().map(|&axis| axis as u64).collect();
        let header = ArrayHeader { element, shape, fortran: false };
        if header.bytes() != end.checked_sub(begin) {
            return Err(wrong(format!(
                "its bytes {begin}..{end} are not what its shape {:?} takes",
                header.shape
            )));
        }
        listing.arrays.push(Array { key, member: String::new(), header, place: start + begin });
    }
    // The library lays tensors out by size; layer 2 comes before layer 10.
    listing.arrays.sort_by(|x, y| natural(&x.key, &y.key));
    if there > last {
        return Err(wrong(format!(
            "{} bytes follow its arrays, so it is no whole file; dump it again",
            there - last
        )));
    }
    Ok(listing)
}

fn element(dtype: Dtype) -> Result<Element, String> {
    Ok(match dtype {
        Dtype::BOOL => Element::named(DType::Bool),
        Dtype::U8 => Element::named(DType::U8),
        Dtype::F16 => Element::named(DType::F16),
        Dtype::BF16 => Element::named(DType::Bf16),
        Dtype::F32 => Element::named(DType::F32),
        Dtype::I32 => Element::named(DType::I32),
        Dtype::U32 => Element::named(DType::U32),
        Dtype::I64 => Element::named(DType::I64),
        Dtype::U64 => Element::named(DType::U64),
        other if other.bitsize() % 8 == 0 => Element::opaque(usual_name(other), (other.bitsize() / 8) as u64),
        other => return Err(format!("element type {other:?} has less than a byte; save it as bytes")),
    })
}

/// What NumPy, or else PyTorch, calls a type: as in dumps of other formats, so that the two compare.
fn usual_name(dtype: Dtype) -> String {
    match dtype {
        Dtype::F64 => "float64".to_owned(),
        Dtype::I8 => "int8".to_owned(),
        Dtype::I16 => "int16".to_owned(),
        Dtype::U16 => "uint16".to_owned(),
        Dtype::C64 => "complex64".to_owned(),
        Dtype::F8_E4M3 => "float8_e4m3fn".to_owned(),
        Dtype::F8_E5M2 => "float8_e5m2".to_owned(),
        Dtype::F8_E8M0 => "float8_e8m0fnu".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}
