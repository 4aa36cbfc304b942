//! The watch file: which buffers to follow under which names, where the program can't be asked.
//!
//! ```toml
//! auto_bytes = 65536        # of what is named by itself, bytes each; 0: nothing by itself
//! step = "repeat"           # or "launch:GLOB": a step ends with the launch of a graph that has such a kernel
//!
//! [[watch]]
//! name = "last_codes"
//! kernel = "*embed*"        # the pointer that the first kernel of such a name takes ...
//! parameter = 1             # ... as this parameter, counted from 0
//! dtype = "i64"
//! shape = [4]
//! role = "state"
//!
//! [[watch]]
//! name = "hidden"
//! address = "0x7f0000000000"
//! dtype = "bf16"
//! shape = [4, 2560]
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;
use twinstep_traces::{DType, Role};

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchFile {
    /// Bytes of each buffer that is named by itself; `None` where the file does not say.
    pub auto_bytes: Option<u64>,
    /// When a step ends, where nobody tells.
    pub step: StepRule,
    /// In order.
    pub watches: Vec<Watch>,
}

/// When a step ends, where nobody tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StepRule {
    /// When a graph is launched that was already launched since the step began.
    #[default]
    Repeat,
    /// With the launch of a graph that has a kernel of such a name.
    Launch(String),
}

/// One buffer to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Its name in the trace.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// Element type.
    pub dtype: DType,
    /// Elements along each axis.
    pub shape: Vec<u64>,
    /// What it is for.
    pub role: Role,
}

/// Where a buffer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// What the first kernel whose name matches takes as a parameter.
    Parameter {
        /// Glob: `*` any text, `?` one character.
        kernel: String,
        /// Counted from 0.
        parameter: usize,
        /// Byte offset within the parameter, where it is a structure.
        byte: usize,
    },
    /// A device address.
    Address(u64),
}

/// What is wrong with a watch file: where, what.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It cannot be read.
    #[error("cannot read watch file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its text is wrong.
    #[error("{}:{line}:{column}: {reason}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
        /// What is wrong, in one line.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    auto_bytes: Option<u64>,
    step: Option<toml::Spanned<String>>,
    #[serde(default)]
    watch: Vec<toml::Spanned<WatchText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchText {
    name: toml::Spanned<String>,
    kernel: Option<String>,
    parameter: Option<usize>,
    byte: Option<usize>,
    address: Option<toml::Spanned<String>>,
    dtype: Option<toml::Spanned<String>>,
    shape: toml::Spanned<Vec<u64>>,
    role: Option<toml::Spanned<String>>,
}

impl WatchFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`WatchError`], in one line with the place.
    pub fn open(path: &Path) -> Result<Self, WatchError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| WatchError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|(at, reason)| {
            let before = text.get(..at).unwrap_or(&text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
            WatchError::Text { path: path.to_owned(), line, column, reason }
        })
    }

    /// The file's text; an error says at which byte.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let file: FileText = toml::from_str(text).map_err(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            (error.span().map_or(0, |span| span.start), message)
        })?;
        let step = match &file.step {
            None => StepRule::Repeat,
            Some(rule) => match (rule.get_ref().as_str(), rule.get_ref().strip_prefix("launch:")) {
                ("repeat", _) => StepRule::Repeat,
                (_, Some(glob)) if !glob.is_empty() => StepRule::Launch(glob.to_owned()),
                (other, _) => {
                    return Err((
                        rule.span().start,
                        format!("step `{other}` is neither `repeat` nor `launch:GLOB`"),
                    ));
                }
            },
        };
        let mut watches: Vec<Watch> = Vec::new();
        for entry in &file.watch {
            let watch = read(entry)?;
            if watches.iter().any(|earlier| earlier.name == watch.name) {
                let at = entry.get_ref().name.span().start;
                return Err((at, format!("`{}` is named twice", watch.name)));
            }
            watches.push(watch);
        }
        Ok(WatchFile { auto_bytes: file.auto_bytes, step, watches })
    }
}

fn read(entry: &toml::Spanned<WatchText>) -> Result<Watch, (usize, String)> {
    let (start, text) = (entry.span().start, entry.get_ref());
    let name = text.name.get_ref().clone();
    usable(&name).map_err(|reason| (text.name.span().start, reason))?;
    let place = match (&text.kernel, text.parameter, &text.address) {
        (Some(kernel), Some(parameter), None) => {
            Place::Parameter { kernel: kernel.clone(), parameter, byte: text.byte.unwrap_or(0) }
        }
        (None, None, Some(address)) => {
            let digits = address.get_ref().strip_prefix("0x").unwrap_or(address.get_ref());
            let value = u64::from_str_radix(digits, 16).ok().filter(|&value| value != 0);
            Place::Address(value.ok_or_else(|| {
                (
                    address.span().start,
                    format!("`{}` is no address such as 0x7f0000000000", address.get_ref()),
                )
            })?)
        }
        _ => {
            let reason = format!("`{name}` needs either `kernel` and `parameter`, or `address`");
            return Err((start, reason));
        }
    };
    let dtype = match &text.dtype {
        None => DType::U8,
        Some(word) => dtype(word.get_ref()).ok_or_else(|| {
            let reason = format!(
                "no element type `{}`: f32, f16, bf16, i64, i32, u32, u64, u8 or bool",
                word.get_ref()
            );
            (word.span().start, reason)
        })?,
    };
    let role = match &text.role {
        None => Role::State,
        Some(word) => role(word.get_ref()).ok_or_else(|| {
            (word.span().start, format!("no role `{}`: state, input, output or scratch", word.get_ref()))
        })?,
    };
    let shape = text.shape.get_ref().clone();
    let bytes = shape.iter().try_fold(dtype.size(), |bytes, &axis| bytes.checked_mul(axis));
    if bytes.is_none_or(|bytes| bytes == 0) {
        return Err((
            text.shape.span().start,
            format!("`{name}` of shape {shape:?} has no bytes, or too many"),
        ));
    }
    Ok(Watch { name, place, dtype, shape, role })
}

/// Whether a buffer can have a name: the driver's allocations have theirs.
///
/// # Errors
/// One line.
pub fn usable(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a buffer needs a name".to_owned());
    }
    if name.chars().any(char::is_control) {
        return Err(format!("`{}`: a name has no control characters", name.escape_debug()));
    }
    match name.strip_prefix("cuda.") {
        Some(number) if number.parse::<u64>().is_ok() => {
            Err(format!("`{name}` is the name of an allocation of the driver; give it another"))
        }
        _ => Ok(()),
    }
}

/// An element type by its name.
pub fn dtype(name: &str) -> Option<DType> {
    use DType::{Bf16, Bool, F16, F32, I32, I64, U8, U32, U64};
    [F32, F16, Bf16, I64, I32, U32, U64, U8, Bool].into_iter().find(|dtype| dtype.name() == name)
}

/// A role that a watched buffer can have, by its name.
pub fn role(name: &str) -> Option<Role> {
    [Role::State, Role::Input, Role::Output, Role::Scratch].into_iter().find(|role| role.name() == name)
}

/// Whether `text` matches a glob of `*` (any text) and `?` (one character).
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and how much of the text it has taken: on a mismatch it takes one more.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("*embed*", "void embed_kernel<int>", true),
            ("embed", "embedding", false),
            ("e?b*", "embedding", true),
            ("*", "", true),
            ("", "", true),
            ("a*b*c", "a_b_b_c", true),
            ("a*b*c", "a_b_b_d", false),
            ("**x", "x", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_whole_file() {
        let file = WatchFile::parse(
            "auto_bytes = 0\nstep = \"launch:*argmax*\"\n\
             [[watch]]\nname = \"a\"\nkernel = \"*k*\"\nparameter = 1\ndtype = \"i64\"\nshape = [4]\nrole = \"input\"\n\
             [[watch]]\nname = \"b\"\naddress = \"0x10\"\nshape = [2, 3]\n",
        )
        .unwrap();
        assert_eq!((file.auto_bytes, &file.step), (Some(0), &StepRule::Launch("*argmax*".into())));
        let place = Place::Parameter { kernel: "*k*".into(), parameter: 1, byte: 0 };
        assert_eq!(file.watches[0].place, place);
        assert_eq!((file.watches[0].dtype, file.watches[0].role), (DType::I64, Role::Input));
        let b = &file.watches[1];
        assert_eq!(
            (&b.place, b.dtype, b.shape.as_slice(), b.role),
            (&Place::Address(16), DType::U8, &[2, 3][..], Role::State)
        );
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watch.toml");
        for (text, place, word) in [
            ("[[watch]]\nname = \"a\"\nshape = [4\n", ":3:", ""),
            ("\n[[watch]]\nname = \"a\"\nshape = [4]\n", ":2:", "either"),
            (
                "[[watch]]\nname = \"a\"\naddress = \"0x1\"\nshape = [4]\ndtype = \"f8\"\n",
                ":5:9",
                "no element type `f8`",
            ),
            ("[[watch]]\nname = \"a\"\naddress = \"zero\"\nshape = [4]\n", ":3:11", "no address"),
            ("[[watch]]\nname = \"a\"\naddress = \"0x1\"\nshape = [0]\n", ":4:9", "no bytes"),
            (
                "[[watch]]\nname = \"a\"\naddress = \"0x1\"\nshape = [1]\nrole = \"weight\"\n",
                ":5:8",
                "no role",
            ),
            ("step = \"token\"\n", ":1:8", "neither"),
            ("autobytes = 4\n", ":1:1", "autobytes"),
            (
                "[[watch]]\nname=\"a\"\naddress=\"0x1\"\nshape=[1]\n[[watch]]\nname=\"a\"\naddress=\"0x2\"\nshape=[1]\n",
                ":6:",
                "twice",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = WatchFile::open(&path).unwrap_err().to_string();
            assert!(
                error.contains(place) && error.contains(word) && error.lines().count() == 1,
                "{text}: {error}"
            );
        }
        let missing = WatchFile::open(&folder.path().join("none.toml")).unwrap_err().to_string();
        assert!(missing.contains("none.toml"), "{missing}");
    }
}
