//! An assertion as a JUnit report: one test case a guard, a rule and an expected divergence.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::assertion::report::{AssertReport, SelfTestState};

/// The report as JUnit XML. Without times: the same assertion gives the same bytes.
///
/// # Errors
/// What cannot be written as XML.
pub fn junit(report: &AssertReport) -> Result<String, String> {
    let mut suite = TestSuite::new("twinstep assert");
    for guard in &report.guards {
        let status =
            if guard.passes { TestCaseStatus::success() } else { failure("guard", &guard.text, &guard.text) };
        suite.add_test_case(case("guard", guard.guard, status));
    }
    for rule in &report.rules {
        let status = match (&rule.ignored, rule.failed) {
            (Some(reason), _) => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(format!("not checked: {reason}"));
                status
            }
            (None, 0) => TestCaseStatus::success(),
            (None, failed) => {
                let message = format!("{failed} of {} places fail", rule.matched);
                let worst = rule.worst.as_ref().map_or(String::new(), |worst| format!("worst: {worst}\n"));
                let first = rule.first.as_ref().map_or(String::new(), |first| format!("first: {first}\n"));
                failure("rule", &message, &format!("{first}{worst}{}", report.next.join("\n")))
            }
        };
        suite.add_test_case(case("rule", &rule.rule, status));
    }
    for expected in &report.expected {
        let status = match expected.occurs {
            0 => failure("expected", "expected and no longer occurs; take it out", &expected.reason),
            _ => TestCaseStatus::success(),
        };
        suite.add_test_case(case("expected", &expected.expected, status));
    }
    for test in report.self_test.iter().flat_map(|test| &test.rules) {
        let status = match test.state {
            SelfTestState::Green | SelfTestState::NoMatch => failure("self-test", &test.text, &test.text),
            SelfTestState::NotChecked => TestCaseStatus::skipped(),
            SelfTestState::Red | SelfTestState::AlreadyRed => TestCaseStatus::success(),
        };
        suite.add_test_case(case("self-test", &test.rule, status));
    }
    let mut document = Report::new("twinstep");
    document.add_test_suite(suite);
    document.to_string().map_err(|error| error.to_string())
}

fn case(class: &str, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(class);
    case
}

fn failure(kind: &str, message: &str, description: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(kind).set_message(message).set_description(description);
    status
}
