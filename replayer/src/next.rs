//! The next command to try, as it can be pasted into a shell.

use crate::at::At;

/// What prints the part of a buffer that an element lies in, at a snapshot point of a step.
pub fn print_command(trace: &str, buffer: &str, index: &[u64], at: At, point: &str) -> String {
    let row = index.first().map_or(String::new(), |row| format!("[{row}]"));
    let step = at.step.map_or("codec".to_owned(), |step| step.to_string());
    let after = match point {
        "step.before" => String::new(),
        "step.after" => " --after".to_owned(),
        point => format!(" --point {}", quoted(point)),
    };
    let buffer = buffer.replace('\'', r"'\''");
    format!("twinstep print {} '{buffer}{row}' --at {}:{step}{after}", quoted(trace), at.request)
}

/// A path as a shell takes it for one word.
pub fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./+=:,@%".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}
