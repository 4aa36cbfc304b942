//! What a comparison came to, in a line.

use super::{DiffReport, StepState, one_sided};

impl DiffReport {
    /// What the comparison came to where no element differs.
    pub fn headline(&self) -> String {
        let steps = self.steps.iter().filter(|s| s.kind == "step").count();
        let without: Vec<_> = self.steps.iter().filter(|s| s.state == StepState::NotCompared).collect();
        match (self.identical, without.first()) {
            (true, None) => format!("identical: {steps} steps, 0 differing bits at every common point"),
            (true, Some(first)) => format!(
                "identical where they can be compared: {} steps, 0 differing bits at every common point; {} steps have no \
                 buffer{} in common, the first is {}:{}",
                self.compared(),
                without.len(),
                if self.empty.is_empty() { "" } else { " with elements" },
                first.request,
                first.step
            ),
            (false, _) if self.same() => format!("no difference beyond noise of the control: {steps} steps"),
            (false, _) => self.without_first(),
        }
    }

    /// One line on the buffers that only one side has, where there are any.
    pub fn one_sided_line(&self) -> Option<String> {
        one_sided::line(&self.one_sided)
    }

    /// Why runs that are not the same have no first element that differs.
    pub fn without_first(&self) -> String {
        match (&self.other_form, self.steps.iter().find(|step| step.state == StepState::Diverged)) {
            (Some(other), _) => format!(
                "not comparable element by element: at request {}, step {}, {} is {} in A, {} in B",
                other.request, other.step, other.buffer, other.a, other.b
            ),
            (None, Some(step)) => format!(
                "not comparable element by element: at request {}, step {}, {}",
                step.request,
                step.step,
                step.differing.first().map_or("a buffer", String::as_str)
            ),
            (None, None) if self.compared() == 0 && self.first.is_none() => self.nothing_compared(),
            (None, None) => {
                let steps = self.steps.iter().filter(|step| step.kind == "step").count();
                format!("no common point differs, but not all of the {steps} steps are on both sides")
            }
        }
    }

    fn nothing_compared(&self) -> String {
        let both = self.steps.iter().any(|s| s.state == StepState::NotCompared);
        match (self.steps.is_empty(), both) {
            (true, _) => "nothing was compared: neither run has a step".to_owned(),
            (false, true) if !self.empty.is_empty() => format!(
                "nothing was compared: all that both runs have at the same point are arrays without elements: {}",
                one_sided::names(&self.empty)
            ),
            (false, true) => {
                "nothing was compared: no buffer has the same name at the same point of both runs".to_owned()
            }
            (false, false) => "nothing was compared: the runs have no step in common".to_owned(),
        }
    }
}
