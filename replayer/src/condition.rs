//! Conditions to stop on: `nan in hidden`, `step == 40`, `last_codes[0][0] == 1025`, `changes seq_lens`.

use std::fmt;
use std::str::FromStr;

use crate::ReplayError;

/// How a number is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

const RELATIONS: [(&str, Relation); 6] = [
    ("==", Relation::Equal),
    ("!=", Relation::NotEqual),
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("<", Relation::Less),
    (">", Relation::Greater),
];

impl Relation {
    /// Whether it holds; with NaN on either side only `!=` does.
    pub fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Relation::Equal => a == b,
            Relation::NotEqual => a != b,
            Relation::Less => a < b,
            Relation::AtMost => a <= b,
            Relation::Greater => a > b,
            Relation::AtLeast => a >= b,
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = RELATIONS.iter().find(|(_, relation)| relation == self);
        f.write_str(named.map_or("", |(sign, _)| sign))
    }
}

/// A condition on a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// On the number of the step.
    Step(Relation, u32),
    /// On the request.
    Request(Relation, u32),
    /// An element of a selection is NaN.
    Nan(String),
    /// An element of a selection is infinite.
    Infinite(String),
    /// Any element of a selection compares so with a value, given as text since its type is the buffer's.
    Value(String, Relation, String),
    /// A selection is not what it was a step before.
    Changes(String),
    /// A selection differs between the two runs.
    Differs(String),
}

/// `last_codes[0][1]` as `last_codes[0,1]`.
fn selection(text: &str) -> String {
    text.trim().replace("][", ",")
}

impl FromStr for Condition {
    type Err = ReplayError;

    fn from_str(text: &str) -> Result<Condition, ReplayError> {
        let text = text.trim();
        let wrong = |what: &str| {
            ReplayError::Selection(format!(
                "`{text}` is no condition{what}: write nan in hidden, step == 40, last_codes[0][0] == 1025, \
                 changes seq_lens or differs hidden"
            ))
        };
        if let Some(rest) = text.strip_prefix("changes ") {
            return Ok(Condition::Changes(selection(rest)));
        }
        if let Some(rest) = text.strip_prefix("differs ") {
            return Ok(Condition::Differs(selection(rest)));
        }
        if let Some((what, of)) = text.split_once(" in ") {
            return match what.trim().to_ascii_lowercase().as_str() {
                "nan" => Ok(Condition::Nan(selection(of))),
                "inf" => Ok(Condition::Infinite(selection(of))),
                _ => Err(wrong("")),
            };
        }
        let found = RELATIONS.iter().find_map(|(sign, relation)| {
            text.split_once(sign).map(|(left, right)| (left.trim(), *relation, right.trim()))
        });
        let Some((left, relation, right)) = found else { return Err(wrong("")) };
        if left.is_empty() || right.is_empty() {
            return Err(wrong(", a side is missing"));
        }
        let number = || right.parse::<u32>().map_err(|_| wrong(", the right side is no number"));
        Ok(match left {
            "step" => Condition::Step(relation, number()?),
            "request" => Condition::Request(relation, number()?),
            _ => Condition::Value(selection(left), relation, right.to_owned()),
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Step(relation, n) => write!(f, "step {relation} {n}"),
            Condition::Request(relation, n) => write!(f, "request {relation} {n}"),
            Condition::Nan(of) => write!(f, "nan in {of}"),
            Condition::Infinite(of) => write!(f, "inf in {of}"),
            Condition::Value(of, relation, value) => write!(f, "{of} {relation} {value}"),
            Condition::Changes(of) => write!(f, "changes {of}"),
            Condition::Differs(of) => write!(f, "differs {of}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Condition {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(parsed("step == 40"), Condition::Step(Relation::Equal, 40));
        assert_eq!(parsed("request >= 2"), Condition::Request(Relation::AtLeast, 2));
        assert_eq!(parsed("NaN in hidden"), Condition::Nan("hidden".into()));
        assert_eq!(parsed("inf in hidden[0,:]"), Condition::Infinite("hidden[0,:]".into()));
        assert_eq!(
            parsed("last_codes[0][0]==1025"),
            Condition::Value("last_codes[0,0]".into(), Relation::Equal, "1025".into())
        );
        assert_eq!(parsed("changes last_codes[0][1]"), Condition::Changes("last_codes[0,1]".into()));
        assert_eq!(parsed("differs hidden"), Condition::Differs("hidden".into()));
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for text in ["step < 3", "nan in a", "inf in b[0]", "c[1,2] != -0.5", "changes d", "differs e[0-3]"] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_the_forms() {
        for text in ["", "hidden", "zero in hidden", "step == x", "== 4", "step =="] {
            let error = text.parse::<Condition>().unwrap_err().to_string();
            assert!(error.contains("write nan in hidden"), "{text}: {error}");
        }
    }

    #[test]
    fn nan_is_unequal_to_everything() {
        assert!(Relation::NotEqual.holds(f64::NAN, f64::NAN));
        assert!(!Relation::Equal.holds(f64::NAN, f64::NAN) && !Relation::AtMost.holds(f64::NAN, 1.0));
    }
}
