//! From passing files to traces under their names: all of an import's or none.
//!
//! A passing file is locked while its process lives, so that the next import can tell what a killed one left
//! behind. A trace that is replaced keeps a second name until every trace is in place.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::{Builder, NamedTempFile};

use super::error::ImportError;

/// What the names of passing files begin with; six letters or digits follow.
const PASSING: &str = ".twinstep-import-";

/// Letters and digits that end a passing name.
const RANDOM: usize = 6;

/// Times that a passing file is made anew because another import took it for a dead one's.
const TRIES: usize = 8;

/// How long an import waits for another one that places its traces.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Links that are followed from one to the next, as in the kernels of today.
const LINKS: usize = 40;

/// Whether a trace may be written under a name.
pub(super) fn check_target(target: &Path, force: bool) -> Result<(), ImportError> {
    let wrong = |what: &str| ImportError::Output { path: target.into(), what: what.to_owned() };
    match fs::metadata(target) {
        Ok(found) if !found.is_file() => Err(wrong("it is no regular file; choose another name")),
        Ok(_) if !force => Err(ImportError::Exists { path: target.into() }),
        Ok(_) => {
            let file = File::open(target).map_err(|e| wrong(&e.to_string()))?;
            match file.try_lock_shared() {
                Err(TryLockError::WouldBlock) => Err(wrong("it is being recorded by another process")),
                _ => Ok(()),
            }
        }
        Err(_) => {
            let real = real(target);
            let folder = folder_of(&real);
            if folder.is_dir() {
                Ok(())
            } else {
                Err(wrong(&format!("there is no folder {}", folder.display())))
            }
        }
    }
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a trace really goes: a symbolic link stays, the file that it leads to is replaced or made.
fn real(target: &Path) -> PathBuf {
    let mut path = target.to_owned();
    for _ in 0..LINKS {
        if let Ok(found) = fs::canonicalize(&path) {
            return found;
        }
        match fs::read_link(&path) {
            Ok(next) => path = folder_of(&path).join(next),
            Err(_) => return path,
        }
    }
    target.to_owned()
}

/// A locked file beside `target`, for a trace that is not whole yet.
pub(super) fn passing(target: &Path) -> io::Result<NamedTempFile> {
    let real = real(target);
    let mut builder = Builder::new();
    builder.prefix(PASSING).rand_bytes(RANDOM);
    #[cfg(unix)]
    // As any new file: what the user's mask leaves of it.
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    for _ in 0..TRIES {
        let file = builder.tempfile_in(folder_of(&real))?;
        let taken = matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock));
        if !taken && file.path().exists() {
            return Ok(file);
        }
    }
    Err(io::Error::other("other imports keep removing its passing file"))
}

/// Removes the passing files of dead processes from the folder that a trace goes to.
pub(super) fn remove_stale(target: &Path) {
    let real = real(target);
    let Ok(entries) = fs::read_dir(folder_of(&real)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(random) = name.to_str().and_then(|name| name.strip_prefix(PASSING)) else { continue };
        let ours = random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric());
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // A lock that nobody holds: the process that made the file is gone. What cannot be removed is in
        // nobody's way.
        if let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A trace to be placed, and what it replaces.
struct Placing {
    target: PathBuf,
    real: PathBuf,
    /// The replaced trace under a second name, which is removed when this is dropped.
    kept: Option<NamedTempFile<()>>,
    placed: bool,
}

/// Gives whole traces their names. They have been synced.
///
/// # Errors
/// One cannot be placed, or exists where `force` is not set: what was there before is there again.
pub(super) fn place_all(written: Vec<(NamedTempFile, PathBuf)>, force: bool) -> Result<(), ImportError> {
    let mut places: Vec<Placing> = Vec::new();
    let mut files = Vec::new();
    for (file, target) in written {
        let real = real(&target);
        if let Some(other) = places.iter().find(|place| place.real == real) {
            let what = format!("it leads to the same file as {}", other.target.display());
            return Err(ImportError::Output { path: target, what });
        }
        places.push(Placing { target, real, kept: None, placed: false });
        files.push(file);
    }
    // Two imports under one name: each places all of its traces, or puts all back, before the other begins.
    let _locked = lock_folders(&places);
    let done = replace(&mut places, files, force);
    if let Err(error) = done {
        return Err(restore(places, error));
    }
    for place in &places {
        // The names outlive a loss of power too, where folders can be synced.
        let _ = File::open(folder_of(&place.real)).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

/// Locks the folders that traces go to; the locks go with the handles. Renames take no time: whoever holds a lock for
/// long is no import, and where folders cannot be locked nothing is lost but the order of two at once.
fn lock_folders(places: &[Placing]) -> Vec<File> {
    // One folder may be written in two ways, and a second lock of it would wait for the first.
    let folders: BTreeSet<PathBuf> =
        places.iter().filter_map(|place| fs::canonicalize(folder_of(&place.real)).ok()).collect();
    let until = Instant::now() + LOCK_WAIT;
    let lock = |path: PathBuf| {
        let folder = File::open(path).ok()?;
        while matches!(folder.try_lock(), Err(TryLockError::WouldBlock)) {
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(folder)
    };
    folders.into_iter().filter_map(lock).collect()
}

fn replace(places: &mut [Placing], files: Vec<NamedTempFile>, force: bool) -> Result<(), ImportError> {
    for place in places.iter_mut().filter(|_| force) {
        // Since the first look a recording may have begun under this name.
        check_target(&place.target, force)?;
        if fs::symlink_metadata(&place.real).is_ok() {
            let kept = keep(&place.real);
            place.kept = Some(kept.map_err(|e| failed(&place.target, &e))?);
        }
    }
    for (place, file) in places.iter_mut().zip(files) {
        let moved = if force { file.persist(&place.real) } else { file.persist_noclobber(&place.real) };
        moved.map_err(|e| failed(&place.target, &e.error))?;
        place.placed = true;
    }
    Ok(())
}

fn failed(target: &Path, error: &io::Error) -> ImportError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => ImportError::Exists { path: target.into() },
        _ => ImportError::Output { path: target.into(), what: error.to_string() },
    }
}

/// A second name of a file. Visible, and beside it: whoever pulls the plug between two renames finds it.
fn keep(real: &Path) -> io::Result<NamedTempFile<()>> {
    let mut prefix = real.file_name().unwrap_or_default().to_owned();
    prefix.push(".replaced-");
    let mut builder = Builder::new();
    builder.prefix(&prefix).rand_bytes(RANDOM);
    let folder = folder_of(real);
    match builder.make_in(folder, |path| fs::hard_link(real, path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            // Not every file system has second names; a copy's bytes are the same.
            builder.make_in(folder, |path| copy(real, path))
        }
        kept => kept,
    }
}

/// Copies a file to a name that nobody has yet; all of it or nothing.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut copied = File::create_new(to)?;
    let done = File::open(from)
        .and_then(|mut from| io::copy(&mut from, &mut copied))
        .and_then(|_| copied.sync_all())
        .and_then(|()| fs::set_permissions(to, fs::metadata(from)?.permissions()));
    if done.is_err() {
        let _ = fs::remove_file(to);
    }
    done
}

/// Puts back what was there; the error that is the reason, or a worse one.
fn restore(places: Vec<Placing>, reason: ImportError) -> ImportError {
    let mut error = reason;
    for place in places {
        match place.kept {
            Some(kept) if place.placed => {
                if let Err(e) = fs::rename(kept.path(), &place.real) {
                    let kept = kept.into_temp_path().keep().map(|path| path.display().to_string());
                    let what = format!("{error}; and its old content could not be put back ({e}): it is in ");
                    let what = what + kept.as_deref().unwrap_or("a file whose name ends in .replaced-");
                    error = ImportError::Output { path: place.target, what };
                }
            }
            None if place.placed => drop(fs::remove_file(&place.real)),
            _ => {}
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn whole(folder: &Path, name: &str, content: &str) -> (NamedTempFile, PathBuf) {
        let target = folder.join(name);
        let mut file = passing(&target).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        (file, target)
    }

    /// What lies in a folder: names, and the text of files.
    fn lies(folder: &Path) -> Vec<(String, String)> {
        let mut found: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        found.sort();
        found
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn all_are_placed_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("a"), "old a").unwrap();
        place_all(vec![whole(folder, "a", "new a"), whole(folder, "b", "new b")], true).unwrap();
        assert_eq!(lies(folder), pairs(&[("a", "new a"), ("b", "new b")]));
    }

    /// The second cannot be placed: the first is what it was, or is not there.
    #[test]
    fn a_failure_between_two_traces_restores_the_first() {
        for (old, force) in [(true, true), (false, true), (false, false)] {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            if old {
                fs::write(folder.join("a"), "old a").unwrap();
            }
            fs::create_dir(folder.join("gone")).unwrap();
            let written = vec![whole(folder, "a", "new a"), whole(folder, "gone/b", "new b")];
            fs::remove_dir_all(folder.join("gone")).unwrap();
            let error = place_all(written, force).unwrap_err();
            assert!(error.to_string().contains("cannot write"), "{error}");
            assert_eq!(lies(folder), pairs(if old { &[("a", "old a")] } else { &[] }));
        }
    }

    #[test]
    fn without_force_nothing_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("b"), "old b").unwrap();
        let written = vec![whole(folder, "a", "new a"), whole(folder, "b", "new b")];
        let error = place_all(written, false).unwrap_err();
        assert!(matches!(error, ImportError::Exists { .. }), "{error}");
        assert_eq!(lies(folder), pairs(&[("b", "old b")]));
    }

    #[cfg(unix)]
    #[test]
    fn two_names_of_one_file_are_refused_and_links_stay() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("a"), "old a").unwrap();
        std::os::unix::fs::symlink("a", folder.join("b")).unwrap();
        let error = place_all(vec![whole(folder, "a", "1"), whole(folder, "b", "2")], true).unwrap_err();
        assert!(error.to_string().contains("the same file as"), "{error}");
        assert_eq!(lies(folder), pairs(&[("a", "old a"), ("b", "old a")]));
        place_all(vec![whole(folder, "b", "new")], true).unwrap();
        assert!(fs::symlink_metadata(folder.join("b")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "new");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_to_nothing_yet_stays() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir(folder.join("far")).unwrap();
        std::os::unix::fs::symlink("far/b", folder.join("a")).unwrap();
        check_target(&folder.join("a"), false).unwrap();
        place_all(vec![whole(folder, "a", "new")], false).unwrap();
        assert!(fs::symlink_metadata(folder.join("a")).unwrap().is_symlink());
        assert_eq!(lies(&folder.join("far")), pairs(&[("b", "new")]));
        std::os::unix::fs::symlink("nowhere/b", folder.join("c")).unwrap();
        let error = check_target(&folder.join("c"), true).unwrap_err();
        assert!(error.to_string().contains("there is no folder"), "{error}");
        std::os::unix::fs::symlink("d", folder.join("d")).unwrap();
        assert!(place_all(vec![whole(folder, "d", "new")], false).is_err());
        assert!(fs::symlink_metadata(folder.join("d")).unwrap().is_symlink());
    }

    /// Whoever is last has placed both of its traces; nobody's second names are left.
    #[test]
    fn imports_at_once_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for _ in 0..100 {
            let start = std::sync::Barrier::new(3);
            std::thread::scope(|scope| {
                for writer in ["one", "two", "three"] {
                    let start = &start;
                    scope.spawn(move || {
                        let written = vec![whole(folder, "a", writer), whole(folder, "b", writer)];
                        start.wait();
                        place_all(written, true).unwrap();
                    });
                }
            });
            let left = lies(folder);
            let names: Vec<_> = left.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["a", "b"]);
            assert_eq!(left[0].1, left[1].1);
        }
    }

    /// A folder that is written in two ways is locked once.
    #[test]
    fn one_folder_by_two_names_is_no_wait() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir(folder.join("sub")).unwrap();
        let places: Vec<Placing> = [folder.join("a"), folder.join("sub/../b")]
            .map(|path| Placing { target: path.clone(), real: path, kept: None, placed: false })
            .into();
        assert_eq!(lock_folders(&places).len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_being_recorded_by_now_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let written = vec![whole(folder, "a", "new a"), whole(folder, "b", "new b")];
        fs::write(folder.join("b"), "recording").unwrap();
        let recording = File::open(folder.join("b")).unwrap();
        recording.lock().unwrap();
        let error = place_all(written, true).unwrap_err();
        assert!(error.to_string().contains("being recorded"), "{error}");
        assert_eq!(lies(folder), pairs(&[("b", "recording")]));
    }

    #[test]
    fn a_copy_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("a"), "text").unwrap();
        copy(&folder.join("a"), &folder.join("b")).unwrap();
        assert_eq!(
            copy(&folder.join("a"), &folder.join("b")).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert!(copy(&folder.join("none"), &folder.join("c")).is_err());
        assert_eq!(lies(folder), pairs(&[("a", "text"), ("b", "text")]));
    }

    #[test]
    fn only_what_dead_imports_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let names = [
            ".twinstep-import-abc12X",
            ".twinstep-import-notes.txt",
            ".twinstep-import-abc-12",
            ".twinstep-import-notes",
            "mine",
        ];
        names.iter().for_each(|name| fs::write(folder.join(name), name).unwrap());
        fs::create_dir(folder.join(".twinstep-import-folder")).unwrap();
        let (living, target) = whole(folder, "a", "half a trace");
        remove_stale(&target);
        let mut left: Vec<String> = names[1..].iter().map(|name| (*name).to_owned()).collect();
        left.push(".twinstep-import-folder".to_owned());
        left.push(living.path().file_name().unwrap().to_str().unwrap().to_owned());
        left.sort();
        assert_eq!(lies(folder).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), left);
        drop(living);
        assert_eq!(lies(folder).len(), 5);
    }
}
