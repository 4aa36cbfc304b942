//! Failures as annotations of a workflow run: `::error title=...::...`.

use crate::assertion::report::{AssertReport, SelfTestState};

/// One line for each failure; `policy` is the file that annotations point into.
pub fn github_annotations(report: &AssertReport, policy: Option<&str>) -> Vec<String> {
    let place = |line: usize| match policy {
        Some(file) if line > 0 => format!("file={},line={line},", property(file)),
        _ => String::new(),
    };
    let error = |line: usize, title: String, message: &str| {
        format!("::error {}title={}::{}", place(line), property(&title), data(message))
    };
    let mut lines = Vec::new();
    for guard in report.guards.iter().filter(|g| !g.passes) {
        lines.push(error(0, format!("twinstep assert: {}", guard.guard), &guard.text));
    }
    for rule in report.rules.iter().filter(|r| r.failed > 0) {
        let worst = rule.worst.as_ref().map_or(String::new(), |worst| format!("; worst at {worst}"));
        let message = format!("{} of {} places fail{worst}", rule.failed, rule.matched);
        lines.push(error(rule.line, format!("twinstep assert: {}", rule.rule), &message));
    }
    for expected in report.expected.iter().filter(|e| e.occurs == 0) {
        let message = format!("expected and no longer occurs; take it out ({})", expected.reason);
        lines.push(error(expected.line, format!("twinstep assert: {}", expected.expected), &message));
    }
    let tests = report.self_test.iter().flat_map(|test| &test.rules);
    for test in tests.filter(|t| matches!(t.state, SelfTestState::Green | SelfTestState::NoMatch)) {
        lines.push(error(test.line, format!("twinstep assert --self-test: {}", test.rule), &test.text));
    }
    lines
}

/// Text after the second `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property, which ends at a comma or colon.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_workflow_would_obey_is_escaped() {
        assert_eq!(data("100 %\r\n::error::x"), "100 %25%0D%0A::error::x");
        assert_eq!(property("a:b,c\n%"), "a%3Ab%2Cc%0A%25");
    }
}
