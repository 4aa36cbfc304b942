//! Reading a policy: every mistake has a line and a column.

use std::ops::Range;

use toml_edit::{Document, Item, Table};

use crate::assertion::expected::Expected;
use crate::assertion::glob::Glob;
use crate::assertion::policy::{AfterFork, Demand, Policy, PolicyError, Rows, Rule, Scope};
use crate::assertion::steps::Steps;
use crate::statistic::Statistic;
use crate::suggest::{did_you_mean, nearest};

/// Policies longer than this are refused: nobody has written them.
const LONGEST: usize = 4 << 20;
/// The most rules, and the most expected divergences: each is tried at every place.
const MOST: usize = 4096;
/// The greatest K of `top_k`.
const TOP_K_MAX: u32 = 65_536;

const POLICY_KEYS: &[&str] = &[
    "after_fork",
    "rows",
    "require_complete",
    "require_graph",
    "require_ranks",
    "require_buffers",
    "same_file",
    "min_steps",
    "rule",
    "expected",
];
const SCOPE_KEYS: &[&str] = &["buffer", "steps", "point"];
const DEMANDS: &[&str] = &["exact", "ulp", "abs", "rel", "statistic", "top_k", "codes", "ignore"];

impl Policy {
    /// Reads a policy file; `ASSERT.md` beside this crate's `Cargo.toml` has the format.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn parse(text: &str) -> Result<Policy, PolicyError> {
        if text.len() > LONGEST {
            let message =
                format!("a policy has at most {} MiB, this text {} bytes", LONGEST >> 20, text.len());
            return Err(PolicyError::at(text, 0, message));
        }
        let document = Document::parse(text).map_err(|error| {
            let lines: Vec<&str> = error.message().lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            PolicyError::at(text, error.span().map_or(0, |span| span.start), lines.join(", "))
        })?;
        let root = Reader { text, table: document.as_table(), span: 0..0 };
        root.only(POLICY_KEYS, "of a policy")?;
        let default = Policy::default();
        let mut policy = Policy {
            after_fork: root
                .choice("after_fork", &[("stop", AfterFork::Stop), ("fail", AfterFork::Fail)])?
                .unwrap_or(default.after_fork),
            rows: root.rows()?.unwrap_or(default.rows),
            require_complete: root.boolean("require_complete")?.unwrap_or(default.require_complete),
            require_graph: root.boolean("require_graph")?.unwrap_or(default.require_graph),
            require_ranks: root.boolean("require_ranks")?.unwrap_or(default.require_ranks),
            require_buffers: root.boolean("require_buffers")?.unwrap_or(default.require_buffers),
            same_file: root.boolean("same_file")?.unwrap_or(default.same_file),
            min_steps: match root.integer("min_steps", 1, u32::MAX.into())? {
                Some(n) => n as u32,
                None => default.min_steps,
            },
            rules: Vec::new(),
            expected: Vec::new(),
        };
        for table in root.tables("rule")? {
            let rule = rule(&table, policy.rows)?;
            policy.rules.push(rule);
        }
        for table in root.tables("expected")? {
            policy.expected.push(expected(&table)?);
        }
        Ok(policy)
    }
}

fn rule(table: &Reader<'_>, rows: Rows) -> Result<Rule, PolicyError> {
    let keys: Vec<&str> = SCOPE_KEYS.iter().chain(DEMANDS).copied().chain(["name", "rows"]).collect();
    table.only(&keys, "of a rule")?;
    let scope = table.scope()?;
    let demand = demand(table)?;
    let name = match table.string("name")? {
        Some((name, _)) if !name.trim().is_empty() => name,
        Some((_, span)) => return Err(table.wrong(span, "`name` is empty; leave it out or write one")),
        None => format!("{scope}: {demand}"),
    };
    let line = PolicyError::at(table.text, table.span.start, "").line;
    Ok(Rule { name, line, scope, rows: table.rows()?.unwrap_or(rows), demand })
}

fn demand(table: &Reader<'_>) -> Result<Demand, PolicyError> {
    let given: Vec<&str> = DEMANDS.iter().copied().filter(|key| table.table.contains_key(key)).collect();
    let statistic = given.contains(&"statistic");
    // Of these only `abs` and `rel` go together, and a statistic with them.
    let alone = given.iter().filter(|key| !matches!(**key, "abs" | "rel" | "statistic")).count();
    let banded = given.len() - alone;
    if given.is_empty() {
        let message = format!("this rule demands nothing; it wants one of {}", DEMANDS.join(", "));
        return Err(table.wrong(table.span.clone(), message));
    }
    if alone > 1 || alone == 1 && banded > 0 {
        let message = format!("`{}` and `{}` are two demands; write two rules", given[0], given[1]);
        return Err(table.wrong(table.key_span(given[1]), message));
    }
    let (abs, rel) = (table.tolerance("abs")?.unwrap_or(0.0), table.tolerance("rel")?.unwrap_or(0.0));
    if statistic {
        if given.len() == 1 {
            let message = "`statistic` wants a band: `abs = 0.01`, `rel = 1e-3`, or both";
            return Err(table.wrong(table.key_span("statistic"), message));
        }
        let names = [
            ("mean", Statistic::Mean),
            ("rms", Statistic::Rms),
            ("min", Statistic::Min),
            ("max", Statistic::Max),
            ("nonfinite", Statistic::Nonfinite),
        ];
        if let Some(of) = table.choice("statistic", &names)? {
            return Ok(Demand::Statistic { of, abs, rel });
        }
    }
    match given[0] {
        "exact" => table.affirmed("exact").map(|()| Demand::Exact),
        "codes" => table.affirmed("codes").map(|()| Demand::Codes),
        "ulp" => Ok(Demand::Ulp(table.integer("ulp", 0, i64::MAX)?.unwrap_or(0) as u64)),
        "top_k" => Ok(Demand::TopK(table.integer("top_k", 1, TOP_K_MAX.into())?.unwrap_or(1) as u32)),
        "ignore" => Ok(Demand::Ignore(table.reason("ignore")?)),
        _ => Ok(Demand::Tolerance { abs, rel }),
    }
}

fn expected(table: &Reader<'_>) -> Result<Expected, PolicyError> {
    let keys: Vec<&str> = SCOPE_KEYS.iter().copied().chain(["reason"]).collect();
    table.only(&keys, "of an expected divergence")?;
    let line = PolicyError::at(table.text, table.span.start, "").line;
    Ok(Expected { line, scope: table.scope()?, reason: table.reason("reason")? })
}

/// A table with its place in the text.
struct Reader<'t> {
    text: &'t str,
    table: &'t Table,
    span: Range<usize>,
}

impl<'t> Reader<'t> {
    fn wrong(&self, span: Range<usize>, message: impl Into<String>) -> PolicyError {
        PolicyError::at(self.text, span.start, message)
    }

    fn key_span(&self, key: &str) -> Range<usize> {
        let span = self.table.get_key_value(key).and_then(|(key, _)| key.span());
        span.unwrap_or_else(|| self.span.clone())
    }

    /// Refuses keys that nobody reads.
    fn only(&self, known: &[&str], of: &str) -> Result<(), PolicyError> {
        for (key, _) in self.table.iter() {
            if !known.contains(&key) {
                let near = did_you_mean(&nearest(key, known.iter().copied()));
                let hint = if near.is_empty() { format!("; known are {}", known.join(", ")) } else { near };
                return Err(self.wrong(self.key_span(key), format!("`{key}` is no key {of}{hint}")));
            }
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Option<(&'t Item, Range<usize>)> {
        let item = self.table.get(key)?;
        Some((item, item.span().unwrap_or_else(|| self.key_span(key))))
    }

    fn mismatch(&self, key: &str, item: &Item, span: Range<usize>, wants: &str) -> PolicyError {
        self.wrong(span, format!("`{key}` wants {wants}, this is of type {}", item.type_name()))
    }

    fn string(&self, key: &str) -> Result<Option<(String, Range<usize>)>, PolicyError> {
        let Some((item, span)) = self.get(key) else { return Ok(None) };
        match item.as_str() {
            Some(text) => Ok(Some((text.to_owned(), span))),
            None => Err(self.mismatch(key, item, span, "a string")),
        }
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, PolicyError> {
        let Some((item, span)) = self.get(key) else { return Ok(None) };
        item.as_bool().map(Some).ok_or_else(|| self.mismatch(key, item, span, "true or false"))
    }

    /// `key = true`; a demand that is denied is none.
    fn affirmed(&self, key: &str) -> Result<(), PolicyError> {
        match self.boolean(key)? {
            Some(true) => Ok(()),
            _ => {
                Err(self.wrong(self.key_span(key), format!("`{key}` wants true; leave the rule out instead")))
            }
        }
    }

    fn integer(&self, key: &str, low: i64, high: i64) -> Result<Option<i64>, PolicyError> {
        let Some((item, span)) = self.get(key) else { return Ok(None) };
        let wants = if high == i64::MAX {
            format!("an integer, at least {low}")
        } else {
            format!("an integer from {low} to {high}")
        };
        match item.as_integer() {
            Some(n) if (low..=high).contains(&n) => Ok(Some(n)),
            Some(n) => Err(self.wrong(span, format!("`{key}` wants {wants}, this is {n}"))),
            None => Err(self.mismatch(key, item, span, &wants)),
        }
    }

    fn tolerance(&self, key: &str) -> Result<Option<f64>, PolicyError> {
        let Some((item, span)) = self.get(key) else { return Ok(None) };
        let number = item.as_float().or_else(|| item.as_integer().map(|n| n as f64));
        match number {
            Some(n) if n.is_finite() && n >= 0.0 => Ok(Some(n)),
            Some(n) => {
                Err(self.wrong(span, format!("`{key}` wants a finite number, at least 0, this is {n}")))
            }
            None => Err(self.mismatch(key, item, span, "a number")),
        }
    }

    fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, PolicyError> {
        let Some((text, span)) = self.string(key)? else { return Ok(None) };
        if let Some((_, chosen)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(Some(*chosen));
        }
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let near = did_you_mean(&nearest(&text, choices.iter().map(|(name, _)| *name)));
        Err(self.wrong(span, format!("`{key}` wants {}, this is {text:?}{near}", names.join(" or "))))
    }

    fn rows(&self) -> Result<Option<Rows>, PolicyError> {
        self.choice("rows", &[("all", Rows::All), ("occupied", Rows::Occupied)])
    }

    fn reason(&self, key: &str) -> Result<String, PolicyError> {
        match self.string(key)? {
            Some((reason, _)) if !reason.trim().is_empty() => Ok(reason),
            Some((_, span)) => Err(self.wrong(span, format!("`{key}` wants a reason, this is empty"))),
            None => Err(self.wrong(self.span.clone(), format!("`{key} = \"...\"` is missing: say why"))),
        }
    }

    fn scope(&self) -> Result<Scope, PolicyError> {
        let buffer = match self.string("buffer")? {
            Some((name, span)) => {
                if name.is_empty() || name.contains(['@', '[']) {
                    let message = "`buffer` wants a name or a pattern such as \"kv_cache.*\", without generation or indices";
                    return Err(self.wrong(span, message));
                }
                name
            }
            None => {
                let message = "`buffer` is missing: a name, a pattern such as \"kv_cache.*\", or \"*\"";
                return Err(self.wrong(self.span.clone(), message));
            }
        };
        let steps = match self.get("steps") {
            None => Steps::default(),
            Some((item, span)) => {
                let text =
                    item.as_str().map(str::to_owned).or_else(|| item.as_integer().map(|n| n.to_string()));
                let text = text
                    .ok_or_else(|| self.mismatch("steps", item, span.clone(), "a string such as \"2-10\""))?;
                text.parse().map_err(|message: String| self.wrong(span, message))?
            }
        };
        let point = match self.string("point")? {
            None => "*".to_owned(),
            Some((point, _)) if point == "before" || point == "after" => format!("step.{point}"),
            Some((point, _)) if point.contains('.') || point.contains('*') => point,
            Some((point, span)) => {
                let near = did_you_mean(&nearest(&point, ["before", "after"].into_iter()));
                let message = format!(
                    "`point` wants \"before\", \"after\" or a point such as \"layer.*.mlp.after\", this is {point:?}{near}"
                );
                return Err(self.wrong(span, message));
            }
        };
        Ok(Scope { buffer: Glob::new(buffer), steps, point: Glob::new(point) })
    }

    /// The tables of `[[key]]`.
    fn tables(&self, key: &str) -> Result<Vec<Reader<'t>>, PolicyError> {
        let Some((item, span)) = self.get(key) else { return Ok(Vec::new()) };
        let Some(tables) = item.as_array_of_tables() else {
            let wants = format!("tables under [[{key}]]");
            return Err(self.mismatch(key, item, self.key_span(key), &wants));
        };
        if tables.len() > MOST {
            return Err(self.wrong(span, format!("{} of [[{key}]]; at most {MOST}", tables.len())));
        }
        let place = |table: &Table| table.span().unwrap_or_else(|| span.clone());
        Ok(tables.iter().map(|table| Reader { text: self.text, table, span: place(table) }).collect())
    }
}
