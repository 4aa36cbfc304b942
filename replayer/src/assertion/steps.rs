//! Which steps a rule is for: `2`, `2-`, `2-10`, `1:2-10`, `codec`, `1:codec`.

use std::fmt;
use std::str::FromStr;

/// An inclusive range of numbers; without a last one it is open.
type Range = (u32, Option<u32>);

/// Steps of some or all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steps {
    request: Option<Range>,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    /// Every step and the codec section.
    #[default]
    All,
    Steps(Range),
    Codec,
}

fn within(range: Range, n: u32) -> bool {
    range.0 <= n && range.1.is_none_or(|last| n <= last)
}

impl Steps {
    /// Steps `first` to `last` of one request.
    pub(crate) fn of(request: u32, first: u32, last: u32) -> Steps {
        Steps { request: Some((request, Some(request))), part: Part::Steps((first, Some(last))) }
    }

    /// The codec section of one request.
    pub(crate) fn codec_of(request: u32) -> Steps {
        Steps { request: Some((request, Some(request))), part: Part::Codec }
    }

    /// Whether a step, or the codec section (`None`), of a request is meant.
    pub fn contains(self, request: u32, step: Option<u32>) -> bool {
        self.request.is_none_or(|range| within(range, request))
            && match self.part {
                Part::All => true,
                Part::Codec => step.is_none(),
                Part::Steps(range) => step.is_some_and(|step| within(range, step)),
            }
    }
}

fn range(text: &str) -> Option<Range> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        text.parse::<u32>().ok().filter(|&n| digits && n > 0)
    };
    match text.split_once('-') {
        None => number(text).map(|n| (n, Some(n))),
        Some((first, "")) => number(first).map(|first| (first, None)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, Some(last)))
        }
    }
}

impl FromStr for Steps {
    type Err = String;

    fn from_str(text: &str) -> Result<Steps, String> {
        let wrong = || {
            format!(
                "`{text}` is no range of steps: write 2, 2-10, 2- (to the end), 1:2-10 (of request 1), codec or 1:codec"
            )
        };
        let (request, part) = match text.split_once(':') {
            Some((request, part)) => (Some(range(request).ok_or_else(wrong)?), part),
            None => (None, text),
        };
        let part = match part {
            "codec" => Part::Codec,
            part => Part::Steps(range(part).ok_or_else(wrong)?),
        };
        Ok(Steps { request, part })
    }
}

fn show((first, last): Range) -> String {
    match last {
        None => format!("{first}-"),
        Some(last) if last == first => format!("{first}"),
        Some(last) => format!("{first}-{last}"),
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = self.request.map_or(String::new(), |range| show(range) + ":");
        match self.part {
            Part::All => write!(f, "{request}all"),
            Part::Codec => write!(f, "{request}codec"),
            Part::Steps(range) => write!(f, "{request}{}", show(range)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Steps;

    #[test]
    fn ranges_are_inclusive() {
        for (text, inside, outside) in [
            ("2", vec![(1, Some(2)), (9, Some(2))], vec![(1, Some(1)), (1, Some(3)), (1, None)]),
            ("2-", vec![(1, Some(2)), (1, Some(u32::MAX))], vec![(1, Some(1)), (1, None)]),
            ("2-4", vec![(3, Some(2)), (1, Some(4))], vec![(1, Some(5))]),
            ("1:2-10", vec![(1, Some(2)), (1, Some(10))], vec![(2, Some(2)), (1, Some(11)), (1, None)]),
            ("2-3:1", vec![(2, Some(1)), (3, Some(1))], vec![(1, Some(1)), (4, Some(1))]),
            ("codec", vec![(1, None), (2, None)], vec![(1, Some(1))]),
            ("2:codec", vec![(2, None)], vec![(1, None), (2, Some(2))]),
        ] {
            let steps: Steps = text.parse().unwrap();
            assert_eq!(steps.to_string(), text);
            for (request, step) in inside {
                assert!(steps.contains(request, step), "{text} {request} {step:?}");
            }
            for (request, step) in outside {
                assert!(!steps.contains(request, step), "{text} {request} {step:?}");
            }
        }
        assert!(Steps::default().contains(7, None) && Steps::default().contains(1, Some(1)));
        for text in
            ["", "0", "-", "-3", "4-2", "two", "1:", ":2", "+2", "2-+3", "1:2:3", "99999999999", "0-2"]
        {
            assert!(text.parse::<Steps>().unwrap_err().contains("2-10"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_range_or_an_error(text in ".{0,12}") {
            if let Ok(steps) = text.parse::<Steps>() {
                prop_assert_eq!(steps.to_string().parse::<Steps>(), Ok(steps));
            }
        }
    }
}
