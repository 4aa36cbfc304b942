//! Which request of one run is which of the other, and whether the runs are of the same rank.
//!
//! Own runs number their requests alike. Another engine's are matched by their id (`text`) where it is not
//! empty and occurs once on each side, else by the tokens of the prompt in the same way, else by number.

use std::collections::BTreeMap;

use twinstep_traces::{RequestRecord, Trace};

use crate::ReplayError;
use crate::at::At;
use crate::foreign::is_foreign;

/// Pairs of requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// B's number by A's, where they are not the same; 0 where B has no such request.
    forth: BTreeMap<u32, u32>,
    back: BTreeMap<u32, u32>,
}

impl Requests {
    /// Matches the requests of two runs.
    pub(crate) fn of(a: &Trace, b: &Trace) -> Requests {
        if !is_foreign(a.run()) || !is_foreign(b.run()) {
            return Requests::default();
        }
        let mut pairs: BTreeMap<u32, u32> = BTreeMap::new();
        let mut back: BTreeMap<u32, u32> = BTreeMap::new();
        let text = |r: &RequestRecord| (!r.text.is_empty()).then(|| r.text.clone());
        let prompt = |r: &RequestRecord| (!r.prompt.is_empty()).then(|| r.prompt.clone());
        pair_by(a, b, text, &mut pairs, &mut back);
        pair_by(a, b, prompt, &mut pairs, &mut back);
        // By number, where neither is spoken for and ids do not say that they are others.
        for mine in a.requests() {
            let number = mine.request;
            if pairs.contains_key(&number) {
                continue;
            }
            let same = |theirs: &&RequestRecord| {
                theirs.request == number
                    && (mine.text.is_empty() || theirs.text.is_empty() || mine.text == theirs.text)
                    && (mine.prompt.is_empty() || theirs.prompt.is_empty() || mine.prompt == theirs.prompt)
            };
            if b.requests().iter().any(|r| same(&r)) && !back.contains_key(&number) {
                pairs.insert(number, number);
                back.insert(number, number);
            }
        }
        let all = |of: &Trace, known: &BTreeMap<u32, u32>| {
            let numbers = of.requests().iter().map(|r| r.request);
            numbers.map(|n| (n, known.get(&n).copied().unwrap_or(0))).collect::<BTreeMap<u32, u32>>()
        };
        Requests { forth: all(a, &pairs), back: all(b, &back) }
    }

    /// B's place for one of A; request 0 where B has none.
    pub(crate) fn of_a(&self, at: At) -> At {
        At { request: self.forth.get(&at.request).copied().unwrap_or(at.request), ..at }
    }

    /// A's place for one of B; request 0 where A has none.
    pub(crate) fn of_b(&self, at: At) -> At {
        At { request: self.back.get(&at.request).copied().unwrap_or(at.request), ..at }
    }
}

/// One numbering for the requests of two runs that are shown beside each other: A's, where A has the request.
#[derive(Debug, Clone, Default)]
pub struct Twins {
    /// B's number by the shown one, where there is one to say.
    own: BTreeMap<u32, u32>,
    /// The shown number by B's.
    shown: BTreeMap<u32, u32>,
}

impl Twins {
    /// Numbers the requests of two runs. Those that B alone has come after all others where A uses their number.
    pub fn of(a: &Trace, b: &Trace) -> Twins {
        let pairs = Requests::of(a, b);
        let mut twins = Twins::default();
        let numbers = |of: &Trace| of.requests().iter().map(|r| r.request).collect::<Vec<u32>>();
        let (in_a, in_b) = (numbers(a), numbers(b));
        if pairs.forth.is_empty() && pairs.back.is_empty() {
            return twins;
        }
        for &number in &in_a {
            twins.own.insert(number, pairs.of_a(At { request: number, step: None }).request);
        }
        let mut next = in_a.iter().chain(&in_b).max().copied().unwrap_or(0);
        for &number in &in_b {
            let shown = match pairs.of_b(At { request: number, step: None }).request {
                0 if in_a.contains(&number) => {
                    next = next.saturating_add(1);
                    next
                }
                0 => number,
                twin => twin,
            };
            twins.shown.insert(number, shown);
            twins.own.insert(shown, number);
        }
        twins
    }

    /// B's own place for a shown one; request 0 where B has none.
    pub fn in_b(&self, at: At) -> At {
        At { request: self.own.get(&at.request).copied().unwrap_or(at.request), ..at }
    }

    /// Where a place of B's is shown.
    pub fn shown(&self, at: At) -> At {
        At { request: self.shown.get(&at.request).copied().unwrap_or(at.request), ..at }
    }

    /// B's requests that are shown under another number, and that number.
    pub fn renumbered(&self) -> impl Iterator<Item = (u32, u32)> {
        self.shown.iter().map(|(&own, &shown)| (own, shown)).filter(|(own, shown)| own != shown)
    }
}

/// Pairs what has the same key, each once on its side, among requests that have no partner yet.
fn pair_by<K: Ord>(
    a: &Trace,
    b: &Trace,
    key: impl Fn(&RequestRecord) -> Option<K>,
    pairs: &mut BTreeMap<u32, u32>,
    back: &mut BTreeMap<u32, u32>,
) {
    let unique = |of: &Trace, taken: &BTreeMap<u32, u32>| {
        let mut by_key: BTreeMap<K, Option<u32>> = BTreeMap::new();
        for request in of.requests().iter().filter(|r| !taken.contains_key(&r.request)) {
            if let Some(key) = key(request) {
                by_key.entry(key).and_modify(|n| *n = None).or_insert(Some(request.request));
            }
        }
        by_key
    };
    let (mine, theirs) = (unique(a, pairs), unique(b, back));
    for (key, number) in mine {
        if let (Some(number), Some(Some(other))) = (number, theirs.get(&key)) {
            pairs.insert(number, *other);
            back.insert(*other, number);
        }
    }
}

/// The rank of the process that a trace is of: what its first step record says.
///
/// # Errors
/// [`ReplayError::Read`].
pub fn rank(trace: &Trace) -> Result<u32, ReplayError> {
    if trace.step_count() > 0 {
        return Ok(trace.step(0)?.rank);
    }
    let told = trace.run().notes.iter().find(|(key, _)| key == "process.rank");
    Ok(told.and_then(|(_, rank)| rank.parse().ok()).unwrap_or(0))
}

/// Refuses to compare different ranks: they hold different parts of a model.
///
/// # Errors
/// [`ReplayError::NotComparable`].
pub(crate) fn same_rank(a: &Trace, b: &Trace) -> Result<(), ReplayError> {
    let (x, y) = (rank(a)?, rank(b)?);
    if x == y || a.step_count() == 0 || b.step_count() == 0 {
        return Ok(());
    }
    Err(ReplayError::NotComparable(format!("the rank differs: {x} in A, {y} in B")))
}
