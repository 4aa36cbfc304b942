//! The dumps of a folder: which files, which arrays, and what their names say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use twinstep_traces::DType;

use super::array::{ArrayHeader, Element};
use super::dump::{Array, Dump, Format, Listing};
use super::error::ImportError;
use super::map::Map;
use super::names::{
    Recognised, Request, Step, by_pattern, natural, no_step, plain, recognise, without_point,
};

/// Why a dump whose step is below 0 is refused: without the minus it would be another step.
const NEGATIVE: &str = "its step has a minus before it; steps count from 0 or 1: name it anew, or say with --map where the number is";

/// Folders within folders that are looked into.
const DEPTH_MAX: usize = 8;

/// Files and arrays of a folder that are looked at.
const COUNT_MAX: usize = 1 << 20;

/// Extensions of files that PyTorch and Python pickle.
const PICKLES: &[&str] = &["pt", "pth", "pkl", "pickle", "ckpt"];

/// Extensions of packed files, and what unpacks them.
const PACKED: &[(&str, &str)] =
    &[("gz", "gunzip -k"), ("zst", "zstd -dk"), ("xz", "unxz -k"), ("bz2", "bunzip2 -k"), ("lz4", "unlz4")];

/// A file with dumped arrays.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) format: Format,
}

/// An array of a file, and what it is.
#[derive(Debug)]
pub(super) struct Located {
    /// Index of its file.
    pub(super) file: usize,
    pub(super) array: Array,
    pub(super) request: Option<Request>,
    pub(super) step: Step,
    pub(super) rank: u32,
    /// `step.before`, `step.after`, or the user's word.
    pub(super) point: String,
    /// Of the buffer.
    pub(super) name: String,
    /// The type that its bits are, where the map says so.
    pub(super) dtype: Option<DType>,
}

impl Located {
    /// Its header with the type that the map gives it.
    pub(super) fn header(&self) -> ArrayHeader {
        let header = self.array.header.clone();
        match self.dtype {
            Some(dtype) => ArrayHeader { element: Element::named(dtype), ..header },
            None => header,
        }
    }
}

/// A folder, listed.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) files: Vec<Source>,
    /// In order of files, then in the order of each file.
    pub(super) arrays: Vec<Located>,
    /// What was not imported, and why.
    pub(super) left_out: Vec<String>,
    /// Keys and names that the map's `ignore` left out.
    pub(super) ignored: BTreeSet<String>,
}

/// What a file is by its extension.
enum Kind {
    Dump(Format),
    Pickle,
    /// A dump or a pickle, packed; and what unpacks it.
    Packed(&'static str),
    Other,
}

impl Kind {
    /// Of a file, and its path without the extensions that say so.
    fn of(relative: &str) -> (Self, &str) {
        let (stem, extension) = split(relative);
        if let Some(format) = Format::of(extension) {
            return (Kind::Dump(format), stem);
        }
        if PICKLES.iter().any(|pickle| extension.eq_ignore_ascii_case(pickle)) {
            return (Kind::Pickle, stem);
        }
        let packed = PACKED.iter().find(|(packed, _)| extension.eq_ignore_ascii_case(packed));
        match (packed, Kind::of_plain(stem)) {
            (Some((_, tool)), Some(inner)) => (Kind::Packed(tool), inner),
            _ => (Kind::Other, relative),
        }
    }

    /// The path without its extension, if that is one of a dump or a pickle.
    fn of_plain(relative: &str) -> Option<&str> {
        let (stem, extension) = split(relative);
        let pickle = PICKLES.iter().any(|pickle| extension.eq_ignore_ascii_case(pickle));
        (pickle || Format::of(extension).is_some()).then_some(stem)
    }
}

/// A path and its extension.
fn split(relative: &str) -> (&str, &str) {
    match relative.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('/') => (stem, extension),
        _ => (relative, ""),
    }
}

/// A file before its arrays are known.
struct Candidate {
    path: PathBuf,
    /// From the folder, with `/`.
    relative: String,
    format: Format,
    said: Recognised,
}

impl Folder {
    /// Lists a folder's dumps. Only names and headers are read.
    ///
    /// # Errors
    /// The folder is missing or holds no dump, a dump cannot be read, or two files are for one step.
    pub(super) fn list(path: &Path, map: &Map) -> Result<Self, ImportError> {
        let wrong = |what: String| ImportError::Folder { path: path.into(), what };
        if !path.is_dir() {
            let what = if path.exists() {
                "this is a file; give the folder that it is in"
            } else {
                "there is no such folder"
            };
            return Err(wrong(what.to_owned()));
        }
        let walked = Walk::over(path)?;
        let mut folder = Folder {
            path: path.into(),
            files: Vec::new(),
            arrays: Vec::new(),
            left_out: walked.left_out,
            ignored: BTreeSet::new(),
        };
        let candidates = folder.candidates(&walked.found, map)?;
        // What differs in the names of a rank's files is a part of their buffers' names.
        let mut rests: BTreeMap<Option<u32>, BTreeSet<&str>> = BTreeMap::new();
        for candidate in candidates.iter().filter(|c| c.format != Format::Npy && c.said.step.is_some()) {
            rests.entry(candidate.said.rank).or_default().insert(&candidate.said.rest);
        }
        let mut seen: HashMap<&Recognised, &Path> = HashMap::new();
        for candidate in candidates.iter().filter(|c| c.said.step.is_some()) {
            if let Some(first) = seen.insert(&candidate.said, &candidate.path) {
                let what = format!(
                    "this and {} are for the same step; keep one, or say with --map what tells them apart",
                    first.display()
                );
                return Err(ImportError::Clash { path: candidate.path.clone(), what });
            }
        }
        for candidate in &candidates {
            let prefixed = rests.get(&candidate.said.rank).is_some_and(|rests| rests.len() > 1);
            folder.enter(candidate, prefixed, map)?;
        }
        if folder.arrays.is_empty() {
            let Some(first) = folder.left_out.first() else {
                if !folder.ignored.is_empty() {
                    return Err(wrong("everything in it is left out by `ignore` of the map".to_owned()));
                }
                return Err(wrong("it holds no dump: .npz, .npy or .safetensors".to_owned()));
            };
            return Err(wrong(if candidates.is_empty() {
                format!("it holds no dump, .npz, .npy or .safetensors (left out: {first})")
            } else if candidates.iter().any(|c| c.said.step.is_some()) {
                format!("its dumps hold nothing to import (left out: {first})")
            } else {
                format!(
                    "it holds no dump that says of which step it is (left out: {first}); \
                     name files like step_0007.npz, or say how with --map"
                )
            }));
        }
        Ok(folder)
    }

    /// The files that may be dumps, and what their paths say.
    fn candidates(&mut self, found: &[String], map: &Map) -> Result<Vec<Candidate>, ImportError> {
        let mut candidates = Vec::new();
        // What is a dump in a form that is not read.
        let mut unread = Vec::new();
        let mut stems = BTreeSet::new();
        for relative in found {
            let path = self.path.join(relative);
            let (kind, stem) = Kind::of(relative);
            let said = match &map.pattern {
                Some(pattern) => by_pattern(pattern, relative)
                    .map_err(|what| ImportError::File { path: path.clone(), what })?,
                None => Some(recognise(stem)),
            };
            let stepped = said.as_ref().is_some_and(|said| said.step.is_some());
            if said.as_ref().is_some_and(|said| said.negative) && matches!(kind, Kind::Dump(_)) {
                return Err(ImportError::File { path, what: NEGATIVE.to_owned() });
            }
            match (kind, said) {
                (Kind::Dump(format), Some(said)) => {
                    stems.insert(stem);
                    candidates.push(Candidate { path, relative: relative.clone(), format, said });
                }
                (Kind::Dump(_), None) => {
                    self.left_out.push(format!("{relative}: the pattern does not match it"));
                }
                (Kind::Pickle, _) => unread.push((path, relative, stem, stepped, None)),
                (Kind::Packed(tool), _) => unread.push((path, relative, stem, stepped, Some(tool))),
                (Kind::Other, _) => self.left_out.push(format!("{relative}: no dump by its extension")),
            }
        }
        for (path, relative, stem, stepped, tool) in unread {
            // What it was made into may lie beside it.
            if !stems.contains(stem) && (stepped || candidates.is_empty()) {
                return Err(match tool {
                    Some(tool) => {
                        let what = format!("it is packed; unpack it beside itself first ({tool})");
                        ImportError::File { path, what }
                    }
                    None => ImportError::Pickle { path },
                });
            }
            let what = if tool.is_some() { "packed" } else { "a pickle" };
            self.left_out.push(format!("{relative}: {what}"));
        }
        Ok(candidates)
    }

    /// Opens a file and takes what belongs to steps.
    fn enter(&mut self, candidate: &Candidate, prefixed: bool, map: &Map) -> Result<(), ImportError> {
        let Candidate { path, relative, format, said } = candidate;
        if *format == Format::Npy && said.step.is_none() {
            let why = no_step(split(relative).0);
            self.left_out.push(format!("{relative}: {why}"));
            return Ok(());
        }
        let Listing { arrays, refused, others } = Dump::open(path, *format)?.list()?;
        self.left_out.extend(others.iter().map(|name| format!("{name} in {relative}: no array")));
        if arrays.is_empty() && refused.is_empty() {
            self.left_out.push(format!("{relative}: it holds no array"));
        }
        let file = self.files.len();
        let alone = arrays.len() + refused.len() == 1;
        let before = self.arrays.len();
        let mut strange = false;
        for (key, what) in refused {
            let own = recognise(&key);
            if said.step.or(own.step).is_none() {
                strange = true;
                continue;
            }
            let of = if said.step.is_none() { own.rest.as_str() } else { key.as_str() };
            let (name, _) = name_of(of, &said.rest, alone, prefixed, map);
            if map.ignores(&key, &name) {
                self.ignored.extend([key, name]);
                continue;
            }
            let path = path.clone();
            return Err(match key.is_empty() {
                true => ImportError::File { path, what },
                false => ImportError::Array { path, array: key, what },
            });
        }
        for array in arrays {
            // Without a step in its path a file is of the whole run, and its keys say the steps.
            let own = if said.step.is_none() { recognise(&array.key) } else { Recognised::default() };
            let Some(step) = said.step.or(own.step) else {
                strange = true;
                continue;
            };
            let key = if said.step.is_none() { own.rest.as_str() } else { array.key.as_str() };
            let (name, end) = name_of(key, &said.rest, alone, prefixed, map);
            let point = end.or(own.point).or_else(|| said.point.clone()).or_else(|| map.point.clone());
            let point = match point.as_deref() {
                None | Some("after") => "step.after".to_owned(),
                Some("before") => "step.before".to_owned(),
                Some(other) => other.to_owned(),
            };
            if map.ignores(&array.key, &name) {
                self.ignored.extend([array.key, name]);
                continue;
            }
            if own.negative {
                let what = NEGATIVE.to_owned();
                return Err(ImportError::Array { path: path.clone(), array: array.key, what });
            }
            let dtype = map.dtype(&name);
            if let Some(dtype) = dtype {
                let (is, size) = (&array.header.element, dtype.size());
                if is.bytes != size {
                    let what = format!(
                        "its elements have {} bytes ({}); {} of the map has {size}",
                        is.bytes,
                        is.name(),
                        dtype.name()
                    );
                    let array = if array.key.is_empty() { name } else { array.key };
                    return Err(ImportError::Array { path: path.clone(), array, what });
                }
            }
            let request = own.request.or_else(|| said.request.clone());
            let rank = own.rank.or(said.rank).unwrap_or(0);
            self.arrays.push(Located { file, array, request, step, rank, point, name, dtype });
        }
        if self.arrays.len() > COUNT_MAX {
            return Err(too_much(&self.path));
        }
        if strange {
            self.left_out.push(format!("{relative}: no step in its name, nor in those of its arrays"));
        }
        if self.arrays.len() > before {
            self.files.push(Source { path: path.clone(), format: *format });
        }
        Ok(())
    }
}

/// The buffer that a key names, and the point at the key's end. `rest` is what the file's path left over:
/// the name where the file holds a single array without one, else a part of it where files differ in it.
fn name_of(key: &str, rest: &str, alone: bool, prefixed: bool, map: &Map) -> (String, Option<String>) {
    let nameless = key.is_empty() || (alone && key == "arr_0");
    let full = match (nameless, rest) {
        (true, "") => if key.is_empty() { "array" } else { key }.to_owned(),
        (true, rest) => rest.to_owned(),
        (false, "") => key.to_owned(),
        (false, rest) if prefixed => format!("{rest}.{key}"),
        (false, _) => key.to_owned(),
    };
    let mapped = |key: &str| map.names.get(key).cloned();
    if let Some(name) = mapped(&full).or_else(|| mapped(key)) {
        return (name, None);
    }
    let (bare, point) = without_point(&full);
    let name = mapped(bare).or_else(|| mapped(without_point(key).0));
    (name.unwrap_or_else(|| plain(bare)), point.map(str::to_owned))
}

fn too_much(path: &Path) -> ImportError {
    let what = format!("it holds more than {COUNT_MAX} files or arrays; import it in parts");
    ImportError::TooMuch { path: path.into(), what }
}

/// The files under a folder, from it on, hidden ones aside. Links are followed.
struct Walk<'a> {
    root: &'a Path,
    found: Vec<String>,
    /// What is no file that can be read, and why.
    left_out: Vec<String>,
    /// Entries looked at.
    count: usize,
}

impl<'a> Walk<'a> {
    fn over(root: &'a Path) -> Result<Self, ImportError> {
        let mut walk = Walk { root, found: Vec::new(), left_out: Vec::new(), count: 0 };
        let real = fs::canonicalize(root)
            .map_err(|e| ImportError::Folder { path: root.into(), what: e.to_string() })?;
        walk.enter("", &mut vec![real])?;
        // Buffers are declared as their files come.
        walk.found.sort_by(|x, y| natural(x, y));
        walk.left_out.sort();
        Ok(walk)
    }

    /// `above` are the real paths of this folder, last, and of those that led to it.
    fn enter(&mut self, inner: &str, above: &mut Vec<PathBuf>) -> Result<(), ImportError> {
        let folder = self.root.join(inner);
        let wrong = |what: String| ImportError::Folder { path: folder.clone(), what };
        if above.len() > DEPTH_MAX + 1 {
            return Err(wrong(format!("more than {DEPTH_MAX} folders deep; name one further in")));
        }
        for entry in fs::read_dir(&folder).map_err(|e| wrong(e.to_string()))? {
            let entry = entry.map_err(|e| wrong(e.to_string()))?;
            self.count += 1;
            if self.count > COUNT_MAX {
                return Err(too_much(self.root));
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let shown = Path::new(&name).display().to_string();
                if matches!(Kind::of(&name.to_string_lossy()).0, Kind::Other) {
                    self.left_out.push(format!("{shown}: its name is not UTF-8"));
                    continue;
                }
                return Err(wrong(format!("{shown} is not UTF-8; rename it")));
            };
            if name.starts_with('.') {
                continue;
            }
            let relative = if inner.is_empty() { name.to_owned() } else { format!("{inner}/{name}") };
            match fs::metadata(entry.path()) {
                Ok(at) if at.is_file() => self.found.push(relative),
                Ok(at) if at.is_dir() => {
                    let real = fs::canonicalize(entry.path()).map_err(|e| wrong(e.to_string()))?;
                    if above.contains(&real) {
                        self.left_out.push(format!("{relative}: a link back to a folder that it is in"));
                        continue;
                    }
                    above.push(real);
                    self.enter(&relative, above)?;
                    above.pop();
                }
                Ok(_) => self.left_out.push(format!("{relative}: neither a file nor a folder")),
                Err(_) => self.left_out.push(format!("{relative}: a link that leads nowhere")),
            }
        }
        Ok(())
    }
}
