//! Goes through a trace's steps with the rules of a file.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use twinstep_traces::{StepKind, Trace};

use super::describe::{Describer, Reason};
use super::evaluate::{Evaluator, Scalar, Scene, Seen, Trouble, indices};
use super::expression::Expression;
use super::moment::Moment;
use super::{Each, Rule, Rules, RulesReport};
use crate::at::place;
use crate::{Finding, ReplayError};

/// Evaluations of parts of an expression that one rule may take over a whole trace.
const WORK_MAX: u64 = 1 << 28;
/// Rows of a batch whose padding is looked at.
const ROWS_MAX: u32 = 1 << 12;

/// What became of a rule so far.
struct Account {
    finding: Option<(usize, Finding)>,
    /// Steps after the first that break it.
    further: usize,
    checked: bool,
    /// Reasons not to look, each with the first step and how many more.
    notes: Vec<(String, String, usize)>,
    budget: Cell<u64>,
}

/// What became of a rule at one step.
enum Outcome {
    NotMeant,
    Holds,
    Broken(Reason),
}

/// A step with what rules may ask of it.
struct Stage<'a> {
    trace: &'a Trace,
    moment: &'a Moment<'a>,
    previous: Option<&'a Moment<'a>>,
    constants: &'a BTreeMap<String, Scalar>,
    prompt_tokens: Option<u64>,
    row: Option<u32>,
    occupied: &'a BTreeSet<u32>,
}

/// Checks every rule at every prefill and decode step.
pub(super) fn check(rules: &Rules, trace: &Trace) -> Result<RulesReport, ReplayError> {
    let run = trace.run();
    let mut constants = rules.constants.clone();
    constants.extend(rules.profiles.get(&run.profile).cloned().unwrap_or_default());
    let occupied: BTreeSet<u32> = trace.requests().iter().map(|request| request.row).collect();
    let mut requests = BTreeMap::new();
    for request in trace.requests() {
        requests.entry(request.request).or_insert(request);
    }
    let mut accounts: Vec<Account> = (rules.rules.iter())
        .map(|_| Account {
            finding: None,
            further: 0,
            checked: false,
            notes: Vec::new(),
            budget: Cell::new(WORK_MAX),
        })
        .collect();
    let looks_back = rules.rules.iter().any(Rule::looks_back);
    let mut latest: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    let mut last: Option<Moment<'_>> = None;
    let mut steps_checked = 0;
    for index in 0..trace.step_count() {
        let step = trace.step(index)?;
        if !matches!(step.kind, StepKind::Prefill | StepKind::Decode) {
            continue;
        }
        let before = latest.insert((step.request, step.rank), index);
        let moment = Moment::new(trace, index, step, last.as_ref())?;
        let step = &moment.step;
        let mut previous = None;
        if let Some(before) = before.filter(|_| looks_back) {
            previous = match last.take().filter(|last| last.index == before) {
                Some(last) => Some(last),
                None => Some(Moment::new(trace, before, trace.step(before)?, None)?),
            };
            previous = previous.filter(|p| p.step.step.checked_add(1) == Some(step.step));
        }
        let request = requests.get(&step.request);
        let stage = Stage {
            trace,
            moment: &moment,
            previous: previous.as_ref(),
            constants: &constants,
            prompt_tokens: request.map(|request| request.prompt.len() as u64),
            row: request.map(|request| request.row),
            occupied: &occupied,
        };
        let mut checked = false;
        for (rule, account) in rules.rules.iter().zip(&mut accounts) {
            checked |= account.step(rule, &stage)?;
        }
        steps_checked += usize::from(checked);
        last = Some(moment);
    }
    Ok(report(rules, accounts, steps_checked))
}

fn report(rules: &Rules, accounts: Vec<Account>, steps_checked: usize) -> RulesReport {
    let rules_checked = accounts.iter().filter(|account| account.checked).count();
    let mut not_looked_at = Vec::new();
    let mut findings = Vec::new();
    for (rule, account) in rules.rules.iter().zip(accounts) {
        for (what, at, further) in &account.notes {
            let more = plural(*further).map_or(String::new(), |more| format!(" and {more}"));
            not_looked_at.push(format!("rule `{}` at step {at}{more}: {what}", rule.name));
        }
        if !account.checked && account.notes.is_empty() {
            not_looked_at.push(format!("rule `{}` matched no step", rule.name));
        }
        findings.extend(account.finding.map(|(index, mut finding)| {
            if let Some(more) = plural(account.further) {
                finding.message += &format!("; {more} break it");
            }
            (index, finding)
        }));
    }
    // What broke first comes first; at one step, in the order of the file.
    findings.sort_by_key(|(index, _)| *index);
    let findings = findings.into_iter().map(|(_, finding)| finding).collect();
    RulesReport { findings, not_looked_at, rules_checked, steps_checked }
}

fn plural(further: usize) -> Option<String> {
    match further {
        0 => None,
        1 => Some("1 further step".to_owned()),
        _ => Some(format!("{further} further steps")),
    }
}

impl Account {
    /// Looks at one step; whether the rule was evaluated there.
    fn step(&mut self, rule: &Rule, stage: &Stage<'_>) -> Result<bool, ReplayError> {
        let mut reason = None;
        let mut evaluated = false;
        match rows(rule, stage) {
            Err(what) => self.note(what, stage),
            Ok(rows) => {
                for row in rows {
                    match stage.rule(rule, row, &self.budget)? {
                        Err(what) => self.note(what, stage),
                        Ok(Outcome::NotMeant) => {}
                        Ok(Outcome::Holds) => evaluated = true,
                        Ok(Outcome::Broken(broken)) => {
                            evaluated = true;
                            reason = reason.or(Some(broken));
                        }
                    }
                }
            }
        }
        self.checked |= evaluated;
        let Some(reason) = reason else { return Ok(evaluated) };
        if self.finding.is_some() {
            self.further += 1;
            return Ok(true);
        }
        let step = &stage.moment.step;
        let finding = Finding {
            check: rule.name.clone(),
            kind: rule.kind,
            request: step.request,
            step: step.step,
            graph: None,
            node: None,
            buffer: reason.buffer,
            message: format!("{}; {}", reason.text, rule.text),
        };
        self.finding = Some((stage.moment.index, finding));
        Ok(true)
    }

    fn note(&mut self, what: String, stage: &Stage<'_>) {
        let at = place(&stage.moment.step).map_or(String::new(), |at| at.to_string());
        let Some((_, first, further)) = self.notes.iter_mut().find(|(known, ..)| *known == what) else {
            // A trace from a stranger gets no more lines than fit a screen.
            if self.notes.len() < 16 {
                self.notes.push((what, at, 0));
            }
            return;
        };
        // Several padding rows of a step say the same.
        if *first != at {
            *further += 1;
        }
    }
}

/// The rows that a rule is evaluated for; one `None` where it sees whole buffers.
fn rows(rule: &Rule, stage: &Stage<'_>) -> Result<Vec<Option<u64>>, String> {
    let rows = stage.trace.run().rows;
    match rule.each {
        Each::Step => Ok(vec![None]),
        Each::Row => match stage.row {
            None => Err(format!("no record of request {}", stage.moment.step.request)),
            Some(row) if row >= rows => Err(format!("row {row} of a batch of {rows}")),
            Some(row) => Ok(vec![Some(row.into())]),
        },
        Each::Padding if rows > ROWS_MAX => Err(format!("a batch of {rows} rows, more than {ROWS_MAX}")),
        Each::Padding => {
            Ok((0..rows).filter(|row| !stage.occupied.contains(row)).map(|row| Some(row.into())).collect())
        }
    }
}

impl Stage<'_> {
    /// A rule for one row: an outcome, or why it cannot be looked at.
    fn rule(
        &self,
        rule: &Rule,
        row: Option<u64>,
        budget: &Cell<u64>,
    ) -> Result<Result<Outcome, String>, ReplayError> {
        if let Some(when) = &rule.when {
            match self.evaluate(when, row, budget)? {
                Err(Trouble::NotLookedAt(what)) => return Ok(Err(what)),
                Err(Trouble::Broken(what)) => return Ok(Ok(broken(what))),
                Ok(None) => {}
                Ok(Some(_)) => return Ok(Ok(Outcome::NotMeant)),
            }
        }
        if self.lacks_previous(&rule.holds) && self.moment.step.kind == StepKind::Prefill {
            return Ok(Ok(Outcome::NotMeant));
        }
        Ok(match self.evaluate(&rule.holds, row, budget)? {
            Err(Trouble::NotLookedAt(what)) => Err(what),
            Err(Trouble::Broken(what)) => Ok(broken(what)),
            Ok(None) => Ok(Outcome::Holds),
            Ok(Some(reason)) => Ok(Outcome::Broken(reason)),
        })
    }

    fn lacks_previous(&self, expression: &Expression) -> bool {
        self.previous.is_none() && expression.buffers().into_iter().any(|name| name.point.previous)
    }

    /// Whether an expression holds for all elements: no reason why not, or the first one.
    fn evaluate(
        &self,
        expression: &Expression,
        row: Option<u64>,
        budget: &Cell<u64>,
    ) -> Result<Result<Option<Reason>, Trouble>, ReplayError> {
        if self.lacks_previous(expression) {
            return Ok(Err(Trouble::NotLookedAt("the step before it is not in the trace".to_owned())));
        }
        let rows = self.trace.run().rows;
        let mut buffers = BTreeMap::new();
        for name in expression.buffers() {
            let moment = if name.point.previous { self.previous } else { Some(self.moment) };
            let Some(moment) = moment else { continue };
            let recorded = match moment.load(name)? {
                Ok(recorded) => recorded,
                Err(what) => return Ok(Err(Trouble::NotLookedAt(what))),
            };
            // A buffer whose leading axis is as long as the batch has rows has a row for each.
            let row = row.filter(|_| recorded.shape.first() == Some(&rows.into()));
            let shape = recorded.shape[usize::from(row.is_some())..].to_vec();
            buffers.insert(name, Seen { recorded, row, shape });
        }
        let scene = Scene {
            buffers,
            constants: self.constants,
            step: self.moment.step.step,
            request: self.moment.step.request,
            prompt_tokens: self.prompt_tokens,
            rows,
            budget,
        };
        let evaluator = Evaluator::new(&scene);
        let shape = match evaluator.frame(expression) {
            Ok(shape) => shape,
            Err(trouble) => return Ok(Err(trouble)),
        };
        for index in indices(&shape) {
            match evaluator.value(expression, &index) {
                Ok(value) if value.truth() => {}
                Ok(_) => {
                    let describer = Describer { evaluator: &evaluator, rule: expression };
                    return Ok(Ok(Some(describer.reason(expression, &index))));
                }
                Err(Trouble::Broken(what)) => {
                    let at: Vec<String> = row.iter().chain(&index).map(u64::to_string).collect();
                    let at = if at.is_empty() { String::new() } else { format!(" at [{}]", at.join(",")) };
                    return Ok(Err(Trouble::Broken(format!("{what}{at}"))));
                }
                Err(trouble) => return Ok(Err(trouble)),
            }
        }
        Ok(Ok(None))
    }
}

fn broken(text: String) -> Outcome {
    Outcome::Broken(Reason { text, buffer: None })
}
