//! The dumps of a folder: which files, which arrays, and what their names say.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use twinstep_traces::DType;

use super::array::{ArrayHeader, Element};
use super::dump::{Array, Dump, Format};
use super::error::ImportError;
use super::map::Map;
use super::names::{Recognised, Request, Step, by_pattern, plain, recognise, without_point};

/// Folders within folders that are looked into.
const DEPTH_MAX: usize = 8;

/// Files and arrays of a folder that are looked at.
const COUNT_MAX: usize = 1 << 20;

/// Extensions of files that PyTorch and Python pickle.
const PICKLES: &[&str] = &["pt", "pth", "pkl", "pickle", "ckpt"];

const INSTEAD: &str = "a pickle runs code when it is read, so it is not; save it with \
                       safetensors.torch.save_file or numpy.savez";

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
        let mut found = Vec::new();
        walk(path, "", 0, &mut found)?;
        found.sort();
        let mut folder =
            Folder { path: path.into(), files: Vec::new(), arrays: Vec::new(), left_out: Vec::new() };
        let candidates = folder.candidates(&found, map)?;
        let prefixes: BTreeSet<&str> = candidates
            .iter()
            .filter(|c| c.format != Format::Npy && c.said.step.is_some())
            .map(|c| c.said.rest.as_str())
            .collect();
        let prefixed = prefixes.len() > 1;
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
            folder.enter(candidate, prefixed, map)?;
        }
        if folder.arrays.is_empty() {
            return Err(wrong(match folder.left_out.first() {
                Some(first) => format!(
                    "it holds no dump that says of which step it is (left out: {first}); \
                                        name files like step_0007.npz, or say how with --map"
                ),
                None => "it holds no dump: .npz, .npy or .safetensors".to_owned(),
            }));
        }
        Ok(folder)
    }

    /// The files that may be dumps, and what their paths say.
    fn candidates(&mut self, found: &[String], map: &Map) -> Result<Vec<Candidate>, ImportError> {
        let mut candidates = Vec::new();
        let mut pickles = Vec::new();
        for relative in found {
            let path = self.path.join(relative);
            let (stem, extension) = match relative.rsplit_once('.') {
                Some((stem, extension)) if !extension.contains('/') => (stem, extension),
                _ => (relative.as_str(), ""),
            };
            let said = match &map.pattern {
                Some(pattern) => by_pattern(pattern, relative)
                    .map_err(|what| ImportError::File { path: path.clone(), what })?,
                None => Some(recognise(stem)),
            };
            let stepped = said.as_ref().is_some_and(|said| said.step.is_some());
            match (Format::of(extension), said) {
                (Some(format), Some(said)) => {
                    candidates.push(Candidate { path, relative: relative.clone(), format, said });
                }
                (Some(_), None) => self.left_out.push(format!("{relative}: the pattern does not match it")),
                (None, _) if PICKLES.iter().any(|p| extension.eq_ignore_ascii_case(p)) => {
                    pickles.push((path, relative, stepped));
                }
                (None, _) => self.left_out.push(format!("{relative}: no dump by its extension")),
            }
        }
        let refused = pickles.iter().find(|(_, _, stepped)| *stepped || candidates.is_empty());
        if let Some((path, ..)) = refused {
            let what = format!("this is a pickle: {INSTEAD}");
            return Err(ImportError::File { path: path.clone(), what });
        }
        self.left_out.extend(pickles.iter().map(|(_, relative, _)| format!("{relative}: a pickle")));
        Ok(candidates)
    }

    /// Opens a file and takes what belongs to steps.
    fn enter(&mut self, candidate: &Candidate, prefixed: bool, map: &Map) -> Result<(), ImportError> {
        let Candidate { path, relative, format, said } = candidate;
        if *format == Format::Npy && said.step.is_none() {
            self.left_out.push(format!("{relative}: its name says no step"));
            return Ok(());
        }
        let (arrays, others) = Dump::open(path, *format)?.arrays()?;
        self.left_out.extend(others.iter().map(|name| format!("{name} in {relative}: no array")));
        let file = self.files.len();
        let alone = arrays.len() == 1;
        let before = self.arrays.len();
        let mut strange = 0;
        for array in arrays {
            // Without a step in its path a file is of the whole run, and its keys say the steps.
            let own = if said.step.is_none() { recognise(&array.key) } else { Recognised::default() };
            let Some(step) = said.step.or(own.step) else {
                strange += 1;
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
                continue;
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
                    return Err(ImportError::Array { path: path.clone(), array: array.key, what });
                }
            }
            let request = own.request.or_else(|| said.request.clone());
            let rank = own.rank.or(said.rank).unwrap_or(0);
            self.arrays.push(Located { file, array, request, step, rank, point, name, dtype });
        }
        if self.arrays.len() > COUNT_MAX {
            return Err(too_much(&self.path));
        }
        if strange > 0 {
            self.left_out.push(format!("{relative}: {strange} arrays whose names say no step"));
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

/// Adds the files under a folder, from it on, hidden ones aside.
fn walk(root: &Path, inner: &str, depth: usize, found: &mut Vec<String>) -> Result<(), ImportError> {
    let folder = root.join(inner);
    let wrong = |e: std::io::Error| ImportError::Folder { path: folder.clone(), what: e.to_string() };
    if depth > DEPTH_MAX {
        return Err(ImportError::Folder {
            path: folder,
            what: format!("more than {DEPTH_MAX} folders deep"),
        });
    }
    for entry in fs::read_dir(&folder).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            let what = format!("{} is not UTF-8; rename it", name.display());
            return Err(ImportError::Folder { path: folder.clone(), what });
        };
        if name.starts_with('.') {
            continue;
        }
        let relative = if inner.is_empty() { name.to_owned() } else { format!("{inner}/{name}") };
        // A link to a folder is not followed: it may lead back.
        if entry.file_type().map_err(wrong)?.is_dir() {
            walk(root, &relative, depth + 1, found)?;
        } else if entry.path().is_file() {
            found.push(relative);
        }
        if found.len() > COUNT_MAX {
            return Err(too_much(root));
        }
    }
    Ok(())
}
