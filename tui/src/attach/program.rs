//! Whether a program can have a library preloaded.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Interpreters of interpreters that are followed.
const DEPTH: u32 = 4;

/// Finds out before the program starts that nothing would be recorded.
///
/// # Errors
/// There is no such program, or it is statically linked, of another architecture, or privileged.
pub(crate) fn check(program: &OsStr) -> Result<(), Failure> {
    let path = find(program).ok_or_else(|| {
        let name = program.to_string_lossy();
        let what = match std::fs::metadata(program) {
            Ok(meta) if meta.is_dir() => format!("`{name}` is a folder, no program"),
            Ok(_) if Path::new(program).components().count() > 1 => format!("`{name}` may not be executed"),
            _ => format!("there is no program `{name}`"),
        };
        Failure::new("program", what)
            .hint("give the command as in a shell: twinstep attach -o run.twin -- python serve.py")
    })?;
    examine(&path, DEPTH)
}

/// Where the system would find a program.
fn find(program: &OsStr) -> Option<PathBuf> {
    let path = Path::new(program);
    let runs = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if path.components().count() > 1 || path.is_absolute() {
        return Some(path.to_owned()).filter(runs);
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&folders).map(|folder| folder.join(path)).find(runs)
}

fn examine(path: &Path, depth: u32) -> Result<(), Failure> {
    let name = path.display();
    let cannot = |why: &str, what: &str| {
        Err(Failure::new("program", format!("{name} cannot have a library preloaded: {why}")).hint(what))
    };
    let mut head = [0; 256];
    let (file, read) = match File::open(path).and_then(|mut file| {
        let read = file.read(&mut head)?;
        Ok((file, read))
    }) {
        Ok(opened) => opened,
        // It may be run and not read: then nothing can be said before.
        Err(_) => return Ok(()),
    };
    let head = &head[..read];
    if let Ok(meta) = file.metadata()
        && meta.mode() & 0o6000 != 0
        && meta.uid() != own_uid()
    {
        return cannot(
            "it runs with another user's rights (setuid)",
            "run it as that user, or start what it starts",
        );
    }
    if let Some(line) = head.strip_prefix(b"#!") {
        let line =
            String::from_utf8_lossy(line.split(|&b| b == b'\n').next().unwrap_or_default()).into_owned();
        let mut words = line.split_whitespace();
        let Some(mut interpreter) = words.next().map(str::to_owned) else { return Ok(()) };
        if interpreter.ends_with("/env")
            && let Some(word) = words.find(|word| !word.starts_with('-') && !word.contains('='))
        {
            interpreter = word.to_owned();
        }
        return match find(OsStr::new(&interpreter)) {
            Some(found) if depth > 0 => examine(&found, depth - 1),
            // The system says it better, when it starts the program.
            _ => Ok(()),
        };
    }
    let Some(rest) = head.strip_prefix(b"\x7fELF") else { return Ok(()) };
    // e_ident[EI_CLASS] 2 is 64-bit; e_machine 62 is x86-64; both little-endian.
    if rest.first() != Some(&2) || head.get(18..20) != Some(&[62, 0][..]) {
        return cannot("it is no 64-bit x86 program", "only x86-64 processes on Linux can be attached to");
    }
    if has_interpreter(&file, head) == Some(false) {
        return cannot(
            "it is statically linked",
            "start a dynamically linked build of it; a program that merely starts others is fine if those are",
        );
    }
    Ok(())
}

/// Whether an ELF file names a loader (PT_INTERP). `None` where it cannot be read.
fn has_interpreter(file: &File, head: &[u8]) -> Option<bool> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let offset = u64::from_le_bytes(head.get(32..40)?.try_into().ok()?);
    let (size, count) = (u16_at(54)?, u16_at(56)?);
    for i in 0..count.min(256) {
        let mut kind = [0; 4];
        let at = offset.checked_add(u64::from(i) * u64::from(size))?;
        file.read_exact_at(&mut kind, at).ok()?;
        if u32::from_le_bytes(kind) == 3 {
            return Some(true);
        }
    }
    Some(false)
}

/// The user that we are.
fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").map_or(0, |meta| meta.uid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn executable(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// An ELF header with one program header of a kind.
    fn elf(class: u8, machine: u16, kind: u32) -> Vec<u8> {
        let mut bytes = vec![0; 120];
        bytes[..5].copy_from_slice(&[0x7f, b'E', b'L', b'F', class]);
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1u16.to_le_bytes());
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes
    }

    #[test]
    fn programs_that_cannot_be_attached_to_are_told_before_they_start() {
        let folder = tempfile::tempdir().unwrap();
        let check = |path: &Path| check(path.as_os_str()).map_err(|f| f.message);
        assert_eq!(check(&std::env::current_exe().unwrap()), Ok(()));
        assert_eq!(check(&executable(folder.path(), "dynamic", &elf(2, 62, 3))), Ok(()));
        for (name, bytes, word) in [
            ("static", elf(2, 62, 1), "statically linked"),
            ("arm", elf(2, 183, 3), "no 64-bit x86"),
            ("old", elf(1, 3, 3), "no 64-bit x86"),
        ] {
            let trouble = check(&executable(folder.path(), name, &bytes)).unwrap_err();
            assert!(trouble.contains(word), "{trouble}");
        }
        let script = format!("#!{} -x\n", folder.path().join("static").display());
        let trouble = check(&executable(folder.path(), "script", script.as_bytes())).unwrap_err();
        assert!(trouble.contains("statically linked"), "{trouble}");
        assert_eq!(check(&executable(folder.path(), "shell", b"#!/usr/bin/env -S VAR=1 sh\n")), Ok(()));
        assert!(check(&folder.path().join("none")).unwrap_err().contains("no program"));
        let looping = format!("#!{}\n", folder.path().join("loop").display());
        assert_eq!(check(&executable(folder.path(), "loop", looping.as_bytes())), Ok(()));
        assert!(check(&executable(folder.path(), "short", b"\x7fELF\x02")).is_err());
    }
}
