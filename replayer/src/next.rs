//! The next command to try, as it can be pasted into a shell.

use crate::at::At;

/// What prints the part of a buffer that an element lies in, at a snapshot point of a step.
pub fn print_command(trace: &str, buffer: &str, index: &[u64], at: At, point: &str) -> String {
    let row = index.first().map_or(String::new(), |row| format!("[{row}]"));
    let step = at.step.map_or("codec".to_owned(), |step| step.to_string());
    let after = match point {
        "step.before" => String::new(),
        "step.after" => " --after".to_owned(),
        point if point.starts_with('-') => format!(" --point={}", word(point)),
        point => format!(" --point {}", word(point)),
    };
    // What begins like an option stands behind all options.
    let end = if buffer.starts_with('-') { " --" } else { "" };
    let (at, buffer) = (format!("--at {}:{step}{after}", at.request), buffer.replace('\'', r"'\''"));
    match end {
        "" => format!("twinstep print {} '{buffer}{row}' {at}", quoted(trace)),
        end => format!("twinstep print {at}{end} {} '{buffer}{row}'", quoted(trace)),
    }
}

/// A path as a shell takes it for one word, and a command for no option.
pub fn quoted(path: &str) -> String {
    if path.starts_with('-') { word(&format!("./{path}")) } else { word(path) }
}

/// As a shell takes it for one word.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_like_an_option_is_none() {
        let at = At { request: 1, step: Some(3) };
        let shown = |trace, buffer, point| print_command(trace, buffer, &[2], at, point);
        assert_eq!(
            shown("a b.twin", "kv", "step.after"),
            "twinstep print 'a b.twin' 'kv[2]' --at 1:3 --after"
        );
        assert_eq!(shown("a.twin", "kv", "-p"), "twinstep print a.twin 'kv[2]' --at 1:3 --point=-p");
        assert_eq!(
            shown("-a.twin", "-it's", "step.before"),
            r"twinstep print --at 1:3 -- ./-a.twin '-it'\''s[2]'"
        );
    }
}
