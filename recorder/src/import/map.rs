//! The map file: what the names of a dump mean where they do not say so themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;
use toml::Spanned;
use twinstep_traces::{DType, Role};

use super::error::ImportError;

/// The largest map file that is read.
const MAP_BYTES_MAX: u64 = 16 << 20;

/// Groups that a pattern may have.
const GROUPS: &[&str] = &["step", "request", "rank", "point", "buffer"];

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    step: Option<Spanned<String>>,
    point: Option<Spanned<String>>,
    points: Option<Spanned<Vec<Spanned<String>>>>,
    prefill: Option<bool>,
    #[serde(default)]
    ignore: Vec<Spanned<String>>,
    #[serde(default)]
    names: HashMap<String, Spanned<String>>,
    #[serde(default)]
    roles: HashMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    dtypes: HashMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    requests: HashMap<Spanned<String>, RequestText>,
    #[serde(default)]
    run: RunText,
}

/// What is said about a request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestText {
    /// The engine's own id of it, or its text.
    #[serde(default)]
    pub(super) text: String,
    /// Token ids.
    #[serde(default)]
    pub(super) prompt: Vec<u32>,
}

/// What is said about the run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunText {
    #[serde(default)]
    pub(super) model: String,
    #[serde(default)]
    pub(super) prompt: String,
    #[serde(default)]
    pub(super) rows: u32,
}

/// A pattern of names: `*` stands for any run of characters, `?` for one.
#[derive(Debug)]
struct Glob {
    written: String,
    regex: Regex,
}

impl Glob {
    fn new(written: &str) -> Result<Self, String> {
        let pattern = regex::escape(written).replace(r"\*", ".*").replace(r"\?", ".");
        let regex =
            Regex::new(&format!("(?s)^{pattern}$")).map_err(|_| "this pattern is too large".to_owned())?;
        Ok(Glob { written: written.to_owned(), regex })
    }

    fn is_match(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }
}

/// A place in a map file.
#[derive(Debug, Clone, Default)]
struct Place {
    path: PathBuf,
    byte: usize,
    line: usize,
    column: usize,
}

impl Place {
    fn of(path: &Path, text: &str, byte: usize) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Place { path: path.into(), byte, line, column }
    }

    fn error(&self, what: String) -> ImportError {
        ImportError::Map { path: self.path.clone(), line: self.line, column: self.column, what }
    }
}

/// A map file, checked.
#[derive(Debug, Default)]
pub(super) struct Map {
    /// Finds step, request, rank, point and buffer in a path.
    pub(super) pattern: Option<Regex>,
    /// The point of a dump that names none.
    pub(super) point: Option<String>,
    /// Points within a step in their order, and where the map has each.
    points: Vec<(String, Place)>,
    /// Where the map has all of them.
    points_at: Option<Place>,
    /// Whether the first step of a request is a prefill.
    pub(super) prefill: Option<bool>,
    /// Arrays that are left out.
    ignore: Vec<Glob>,
    /// Buffers by key.
    pub(super) names: HashMap<String, String>,
    roles: Vec<(Glob, Role)>,
    dtypes: Vec<(Glob, DType)>,
    /// By number or id.
    pub(super) requests: BTreeMap<String, RequestText>,
    pub(super) run: RunText,
}

impl Map {
    /// Reads a map file.
    ///
    /// # Errors
    /// [`ImportError::Map`] with line and column.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let failed = |what: String| ImportError::File { path: path.into(), what };
        let length = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
        if length > MAP_BYTES_MAX {
            return Err(failed(format!("a map file of {length} bytes is not read")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        Self::parse(&text).map_err(|(at, what)| Place::of(path, &text, at).error(what)).map(|mut map| {
            let place = |at: &mut Place| *at = Place::of(path, &text, at.byte);
            map.points.iter_mut().for_each(|(_, at)| place(at));
            map.points_at.iter_mut().for_each(place);
            map
        })
    }

    /// The map that a text is; else the byte where it is wrong, and how.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let written: Text = toml::from_str(text).map_err(|e| {
            let what = e.message().lines().collect::<Vec<_>>().join(" ");
            (e.span().map_or(0, |span| span.start), what)
        })?;
        let at = |spanned: &Spanned<String>, what: String| (spanned.span().start, what);
        let pattern = match &written.step {
            Some(step) => Some(pattern(step.get_ref()).map_err(|what| at(step, what))?),
            None => None,
        };
        let point = match &written.point {
            Some(point) if point.get_ref().is_empty() => {
                return Err(at(point, "a point needs a name: before or after".to_owned()));
            }
            point => point.as_ref().map(|point| point.get_ref().clone()),
        };
        let mut map = Map { pattern, point, prefill: written.prefill, run: written.run, ..Map::default() };
        if let Some(points) = written.points {
            map.points_at = Some(Place { byte: points.span().start, ..Place::default() });
            for point in points.into_inner() {
                let name = point.get_ref();
                if ["before", "after", "step.before", "step.after"].contains(&name.as_str()) {
                    return Err(at(
                        &point,
                        format!("`{name}` has its place: before comes first and after last"),
                    ));
                }
                if map.points.iter().any(|(other, _)| other == name) {
                    return Err(at(&point, format!("`{name}` is in `points` twice")));
                }
                let place = Place { byte: point.span().start, ..Place::default() };
                map.points.push((point.into_inner(), place));
            }
        }
        map.ignore = written
            .ignore
            .iter()
            .map(|g| Glob::new(g.get_ref()).map_err(|e| at(g, e)))
            .collect::<Result<_, _>>()?;
        for (key, name) in written.names {
            if super::names::plain(name.get_ref()) != *name.get_ref() || name.get_ref().is_empty() {
                let what =
                    format!("`{}` is no name: letters, digits, `.`, `_` and `-` make one", name.get_ref());
                return Err(at(&name, what));
            }
            map.names.insert(key, name.into_inner());
        }
        let mut roles: Vec<_> = written.roles.into_iter().collect();
        // As written: the first that matches counts.
        roles.sort_by_key(|(pattern, _)| pattern.span().start);
        for (pattern, role) in roles {
            let found = match role.get_ref().as_str() {
                "state" => Role::State,
                "input" => Role::Input,
                "output" => Role::Output,
                "scratch" => Role::Scratch,
                other => {
                    let what = format!("`{other}` is no role: state, input, output or scratch");
                    return Err(at(&role, what));
                }
            };
            map.roles.push((Glob::new(pattern.get_ref()).map_err(|e| at(&pattern, e))?, found));
        }
        let mut dtypes: Vec<_> = written.dtypes.into_iter().collect();
        dtypes.sort_by_key(|(pattern, _)| pattern.span().start);
        for (pattern, dtype) in dtypes {
            let Some(found) = DType::ALL.into_iter().find(|d| d.name() == dtype.get_ref()) else {
                let names = DType::ALL.map(DType::name).join(", ");
                return Err(at(&dtype, format!("`{}` is no element type: {names}", dtype.get_ref())));
            };
            map.dtypes.push((Glob::new(pattern.get_ref()).map_err(|e| at(&pattern, e))?, found));
        }
        map.requests =
            written.requests.into_iter().map(|(name, request)| (name.into_inner(), request)).collect();
        Ok(map)
    }

    /// Whether `points`, where it is given, has each point within a step that the dumps have, and no other.
    ///
    /// # Errors
    /// [`ImportError::Map`] with line and column.
    pub(super) fn check_points(&self, found: &BTreeSet<&str>) -> Result<(), ImportError> {
        let Some(all) = &self.points_at else { return Ok(()) };
        let inner = || found.iter().filter(|point| !["step.before", "step.after"].contains(point));
        if let Some((name, at)) = self.points.iter().find(|(name, _)| !inner().any(|point| point == name)) {
            let there = match inner().count() {
                0 => "they have none within a step".to_owned(),
                _ => format!("they have {}", inner().copied().collect::<Vec<_>>().join(", ")),
            };
            return Err(at.error(format!("`{name}` is no point of these dumps: {there}")));
        }
        match inner().find(|point| self.point_order(point).is_none()) {
            Some(missing) => {
                Err(all.error(format!("`{missing}` is a point of these dumps and not in `points`")))
            }
            None => Ok(()),
        }
    }

    /// The place of a point among those of a step, where the map gives their order.
    pub(super) fn point_order(&self, point: &str) -> Option<usize> {
        self.points.iter().position(|(name, _)| name == point)
    }

    /// What it says of things that are not there: mostly slips of the pen.
    pub(super) fn idle(
        &self,
        buffers: &BTreeSet<&str>,
        ignored: &BTreeSet<&str>,
        requests: &BTreeSet<String>,
    ) -> Vec<String> {
        let mut idle: Vec<String> = Vec::new();
        let unnamed = self.names.iter().filter(|(_, name)| !buffers.contains(name.as_str()));
        idle.extend(unnamed.map(|(key, _)| format!("`{key}` of [names]")));
        idle.sort();
        let roles = self.roles.iter().map(|(glob, _)| ("[roles]", glob, buffers));
        let dtypes = self.dtypes.iter().map(|(glob, _)| ("[dtypes]", glob, buffers));
        let ignore = self.ignore.iter().map(|glob| ("ignore", glob, ignored));
        for (of, glob, names) in ignore.chain(roles).chain(dtypes) {
            if !names.iter().any(|name| glob.is_match(name)) {
                idle.push(format!("`{}` of {of}", glob.written));
            }
        }
        let unknown = self.requests.keys().filter(|label| !requests.contains(*label));
        idle.extend(unknown.map(|label| format!("[requests.{label}]")));
        idle.iter().map(|what| format!("{what} in the map is about nothing in these dumps")).collect()
    }

    /// Whether an array is left out, by its key or its name.
    pub(super) fn ignores(&self, key: &str, name: &str) -> bool {
        self.ignore.iter().any(|glob| glob.is_match(key) || glob.is_match(name))
    }

    /// What a buffer is for.
    pub(super) fn role(&self, name: &str) -> Role {
        self.roles.iter().find(|(glob, _)| glob.is_match(name)).map_or(Role::State, |(_, role)| *role)
    }

    /// The type that the bits of a buffer are, where the map says so.
    pub(super) fn dtype(&self, name: &str) -> Option<DType> {
        self.dtypes.iter().find(|(glob, _)| glob.is_match(name)).map(|(_, dtype)| *dtype)
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    let pattern = Regex::new(text).map_err(|e| {
        let text = e.to_string();
        format!("this is no pattern: {}", text.lines().last().unwrap_or("").trim_start_matches("error: "))
    })?;
    let groups: Vec<&str> = pattern.capture_names().flatten().collect();
    if let Some(unknown) = groups.iter().find(|group| !GROUPS.contains(group)) {
        return Err(format!("no group `{unknown}`: {} are known", GROUPS.join(", ")));
    }
    if !groups.contains(&"step") {
        return Err(r"the pattern has no group `step`: write (?<step>\d+)".to_owned());
    }
    Ok(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read() {
        let map = Map::parse(
            r#"
            step = '(?<step>\d+)\.npz'
            point = "before"
            ignore = ["*.weight"]
            [names]
            "model.last_codes" = "last_codes"
            [roles]
            "kv.*" = "state"
            "*" = "output"
            [dtypes]
            hidden = "bf16"
            [requests.1]
            text = "cmpl-1"
            prompt = [1, 2]
            "#,
        )
        .unwrap();
        assert!(map.ignores("a.weight", "a") && !map.ignores("a.weights", "a"));
        assert_eq!((map.role("kv.0"), map.role("logits")), (Role::State, Role::Output));
        assert_eq!((map.dtype("hidden"), map.dtype("h")), (Some(DType::Bf16), None));
        assert_eq!(map.requests["1"].prompt, [1, 2]);
    }

    #[test]
    fn errors_say_where() {
        let wrong = |text: &str| {
            let (at, what) = Map::parse(text).unwrap_err();
            format!("{at}: {what}")
        };
        assert!(wrong("a = 1").starts_with("0: unknown field `a`"), "{}", wrong("a = 1"));
        assert!(wrong("ignore = [\"x\"\n[names]").contains(':'));
        assert_eq!(wrong("step = '('"), "7: this is no pattern: unclosed group");
        assert!(wrong(r"step = '(\d+)'").starts_with("7: the pattern has no group `step`"));
        assert!(wrong("step = '(?<step>.)(?<layer>.)'").starts_with("7: no group `layer`"));
        assert!(wrong("[roles]\nx = 'weight'").starts_with("12: `weight` is no role"));
        assert!(wrong("[dtypes]\nx = 'f64'").starts_with("13: `f64` is no element type"));
        assert!(wrong("points = ['a', 'before']").starts_with("15: `before` has its place"));
        assert!(wrong("points = ['a', 'a']").starts_with("15: `a` is in `points` twice"));
        assert!(wrong("[names]\nx = 'a b'").starts_with("12: `a b` is no name"));
    }
}
