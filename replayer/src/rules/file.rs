//! The rules that a TOML file holds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{RulesError, offsets_in_file};
use super::evaluate::Scalar;
use super::expression::{Expression, is_plain};
use super::parse::{parse, reserved};
use super::{Each, Rule, Rules};
use crate::Kind;
use crate::suggest::{did_you_mean, nearest};

/// Bytes of a rules file.
const FILE_MAX: usize = 1 << 20;
/// Rules of a file.
const RULES_MAX: usize = 1000;

/// Verdicts about a pair of runs, which one run cannot earn by breaking a rule.
const NO_MECHANISM: [Kind; 4] = [Kind::Identical, Kind::Rounding, Kind::Noise, Kind::Unknown];

/// A file being read.
struct File<'a> {
    name: &'a str,
    text: &'a str,
}

type Entry<'a> = Spanned<DeValue<'a>>;

/// Reads a rules file.
pub(super) fn rules(name: &str, text: &str) -> Result<Rules, RulesError> {
    let file = File { name, text };
    if text.len() > FILE_MAX {
        return Err(
            file.wrong(0, format!("a rules file of {} bytes; at most {FILE_MAX} are read", text.len()))
        );
    }
    let document = DeTable::parse(text)
        .map_err(|e| file.wrong(e.span().map_or(text.len(), |span| span.start), first_line(e.message())))?;
    let document = document.get_ref();
    file.keys(document, &["model", "constants", "profile", "rule"])?;
    let model = match document.get("model") {
        Some(value) => Some(file.string(value, "model")?.to_owned()),
        None => None,
    };
    let mut rules = Rules { model, constants: BTreeMap::new(), profiles: BTreeMap::new(), rules: Vec::new() };
    if let Some(value) = document.get("constants") {
        rules.constants = file.constants(file.table(value, "[constants]")?, &BTreeMap::new())?;
    }
    if let Some(value) = document.get("profile") {
        for (profile, value) in file.table(value, "[profile.NAME]")? {
            let table = file.table(value, "[profile.NAME]")?;
            let constants = file.constants(table, &rules.constants)?;
            rules.profiles.insert(profile.get_ref().to_string(), constants);
        }
    }
    let entries = match document.get("rule").map(|value| (value, value.get_ref())) {
        None => {
            return Err(file.wrong(text.len(), "no rule: a rules file has at least one [[rule]]".to_owned()));
        }
        Some((_, DeValue::Array(entries))) => entries,
        Some((value, _)) => return Err(file.expected(value, "[[rule]], in two pairs of brackets")),
    };
    if entries.len() > RULES_MAX {
        let what = format!("{} rules; at most {RULES_MAX} are read", entries.len());
        return Err(file.wrong(entries[RULES_MAX].span().start, what));
    }
    let known: BTreeSet<&str> = (rules.constants.keys())
        .chain(rules.profiles.values().flat_map(BTreeMap::keys))
        .map(String::as_str)
        .collect();
    let known: Vec<&str> = known.into_iter().collect();
    let mut names = BTreeSet::new();
    let mut read = Vec::new();
    for entry in entries.iter() {
        let rule = file.rule(entry, &known)?;
        if !names.insert(rule.name.clone()) {
            return Err(file.wrong(entry.span().start, format!("a second rule `{}`", rule.name)));
        }
        read.push(rule);
    }
    rules.rules = read;
    Ok(rules)
}

/// A message that fits on one line.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or("not TOML").to_owned()
}

impl File<'_> {
    fn wrong(&self, offset: usize, what: String) -> RulesError {
        RulesError::at(self.name, self.text, offset, what)
    }

    fn expected(&self, value: &Entry<'_>, what: &str) -> RulesError {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.wrong(value.span().start, format!("expected {what}, found {found}"))
    }

    fn keys(&self, table: &DeTable<'_>, known: &[&str]) -> Result<(), RulesError> {
        // The first in the file, not in the alphabet.
        let unknown = table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        let Some(key) = unknown.min_by_key(|key| key.span().start) else { return Ok(()) };
        let name = key.get_ref();
        let near = did_you_mean(&nearest(name, known.iter().copied()));
        let what = format!("unknown key `{}`{near}; known are {}", name.escape_debug(), known.join(", "));
        Err(self.wrong(key.span().start, what))
    }

    fn table<'t, 'i>(&self, value: &'t Entry<'i>, what: &str) -> Result<&'t DeTable<'i>, RulesError> {
        value.get_ref().as_table().ok_or_else(|| self.expected(value, what))
    }

    fn string<'t>(&self, value: &'t Entry<'_>, what: &str) -> Result<&'t str, RulesError> {
        value.get_ref().as_str().ok_or_else(|| self.expected(value, &format!("a string for `{what}`")))
    }

    fn constants(
        &self,
        table: &DeTable<'_>,
        taken: &BTreeMap<String, Scalar>,
    ) -> Result<BTreeMap<String, Scalar>, RulesError> {
        let mut constants = BTreeMap::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let wrong = |what: String| Err(self.wrong(key.span().start, what));
            if !is_plain(name) || name.contains('@') {
                return wrong(format!(
                    "`{}` is no name for a constant: write letters, digits and _",
                    name.escape_debug()
                ));
            }
            if reserved().any(|word| word == name) {
                return wrong(format!("`{name}` has a meaning of its own and cannot be a constant"));
            }
            if taken.contains_key(name) {
                return wrong(format!("`{name}` is in [constants] already"));
            }
            let too_great = || self.wrong(value.span().start, format!("`{name}` is too great"));
            let scalar = match value.get_ref() {
                DeValue::Boolean(value) => Scalar::Truth(*value),
                DeValue::Integer(integer) => {
                    let value = i128::from_str_radix(integer.as_str(), integer.radix());
                    Scalar::Integer(value.map_err(|_| too_great())?)
                }
                DeValue::Float(float) => {
                    let value = float.as_str().parse::<f64>().ok().filter(|value| value.is_finite());
                    Scalar::Float(value.ok_or_else(too_great)?)
                }
                _ => return Err(self.expected(value, "an integer, a float, true or false")),
            };
            constants.insert(name.to_owned(), scalar);
        }
        Ok(constants)
    }

    fn rule(&self, entry: &Entry<'_>, constants: &[&str]) -> Result<Rule, RulesError> {
        let table = self.table(entry, "[[rule]]")?;
        self.keys(table, &["name", "text", "kind", "each", "when", "holds"])?;
        let needed = |key: &str| {
            let missing = || self.wrong(entry.span().start, format!("a rule without `{key}`"));
            table.get(key).ok_or_else(missing)
        };
        let name_value = needed("name")?;
        let name = self.string(name_value, "name")?;
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(kebab) {
            let what = "a rule's name is up to 64 of a-z, 0-9 and -, such as seq-len-grows".to_owned();
            return Err(self.wrong(name_value.span().start, what));
        }
        let text_value = needed("text")?;
        let text = self.string(text_value, "text")?.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            let what = "a rule's text is one sentence on one line".to_owned();
            return Err(self.wrong(text_value.span().start, what));
        }
        let holds = self.expression(needed("holds")?, "holds", constants)?;
        let when = match table.get("when") {
            Some(value) => Some(self.expression(value, "when", constants)?),
            None => None,
        };
        let each = match table.get("each") {
            None => Each::Step,
            Some(value) => match self.string(value, "each")? {
                "row" => Each::Row,
                "padding" => Each::Padding,
                _ => return Err(self.wrong(value.span().start, "expected \"row\" or \"padding\"".to_owned())),
            },
        };
        let kind = match table.get("kind") {
            None => Kind::RuleBroken,
            Some(value) => self.kind(value)?,
        };
        Ok(Rule {
            name: name.to_owned(),
            text: text.trim_end_matches('.').to_owned(),
            kind,
            each,
            when,
            holds,
        })
    }

    fn kind(&self, value: &Entry<'_>) -> Result<Kind, RulesError> {
        let name = self.string(value, "kind")?;
        let kinds = || Kind::ALL.iter().filter(|kind| !NO_MECHANISM.contains(kind));
        kinds().find(|kind| kind.name() == name).copied().ok_or_else(|| {
            let near = did_you_mean(&nearest(name, kinds().map(|kind| kind.name())));
            let what = format!("`{}` is no mechanism that a rule can name{near}", name.escape_debug());
            self.wrong(value.span().start, what)
        })
    }

    fn expression(&self, value: &Entry<'_>, key: &str, constants: &[&str]) -> Result<Expression, RulesError> {
        let text = self.string(value, key)?;
        parse(text, constants).map_err(|e| self.wrong(self.offset(value.span(), text, e.offset), e.what))
    }

    fn offset(&self, span: Range<usize>, text: &str, offset: usize) -> usize {
        let offsets = offsets_in_file(self.text, span.clone(), text);
        offsets.get(offset).or(offsets.last()).copied().unwrap_or(span.start)
    }
}
