//! The one table of key bindings: what the keyboard does, what help, footer and palette say.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum View {
    Timeline,
    Step,
    Values,
    Codes,
    Kv,
    Sound,
    Patch,
    Explain,
    History,
}

impl View {
    pub(crate) const ALL: [View; 9] = [
        View::Timeline,
        View::Step,
        View::Values,
        View::Codes,
        View::Kv,
        View::Sound,
        View::Patch,
        View::Explain,
        View::History,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            View::Timeline => "timeline",
            View::Step => "step",
            View::Values => "values",
            View::Codes => "codes",
            View::Kv => "kv",
            View::Sound => "sound",
            View::Patch => "patch",
            View::Explain => "explain",
            View::History => "history",
        }
    }
}

/// What a person can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Action {
    Quit,
    Help,
    Palette,
    Search,
    Escape,
    Show(View),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    NextPane,
    NextStep,
    PreviousStep,
    Into,
    IntoBack,
    Finish,
    FinishBack,
    Continue,
    ContinueBack,
    NextDivergence,
    PreviousDivergence,
    FirstDivergence,
    SearchNext,
    SearchPrevious,
    Goto,
    SetMark,
    JumpMark,
    ZoomIn,
    ZoomOut,
    BeforeAfter,
    SwapSide,
    NextMode,
    NextDifference,
    SliceNext,
    SlicePrevious,
    NextDiffering,
    PreviousDiffering,
    FilterRole,
    FilterState,
    PatchOther,
    PatchElement,
    PatchValue,
    PatchFromStep,
    PatchText,
    Execute,
    Undo,
    Export,
    WatchChange,
    WatchDiffers,
    Break,
    ClearWatches,
    FindHistory,
    FindCause,
    Check,
    Compare,
    Info,
}

/// A key as the table names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Char(char),
    Ctrl(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Esc,
    Tab,
}

impl Key {
    /// The key of an event, where the table could name it.
    pub(crate) fn of(event: &KeyEvent) -> Option<Key> {
        let control = event.modifiers.contains(KeyModifiers::CONTROL);
        Some(match event.code {
            KeyCode::Char(c) if control => Key::Ctrl(c.to_ascii_lowercase()),
            KeyCode::Char(c) if !event.modifiers.contains(KeyModifiers::ALT) => Key::Char(c),
            KeyCode::Up => Key::Up,
            KeyCode::Down => Key::Down,
            KeyCode::Left => Key::Left,
            KeyCode::Right => Key::Right,
            KeyCode::PageUp => Key::PageUp,
            KeyCode::PageDown => Key::PageDown,
            KeyCode::Home => Key::Home,
            KeyCode::End => Key::End,
            KeyCode::Enter => Key::Enter,
            KeyCode::Esc => Key::Esc,
            KeyCode::Tab | KeyCode::BackTab => Key::Tab,
            _ => return None,
        })
    }

    /// As people read it.
    pub(crate) fn name(self) -> String {
        match self {
            Key::Char(' ') => "Space".to_owned(),
            Key::Char(c) => c.to_string(),
            Key::Ctrl(c) => format!("^{}", c.to_ascii_uppercase()),
            Key::Up => "↑".to_owned(),
            Key::Down => "↓".to_owned(),
            Key::Left => "←".to_owned(),
            Key::Right => "→".to_owned(),
            Key::PageUp => "PgUp".to_owned(),
            Key::PageDown => "PgDn".to_owned(),
            other => format!("{other:?}"),
        }
    }
}

/// When a binding holds, beyond its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// A search is active.
    Searching,
    /// None is.
    NotSearching,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) keys: &'static [Key],
    pub(crate) action: Action,
    /// The palette's word, also understood when typed.
    pub(crate) word: &'static str,
    /// What it does, for help and palette.
    pub(crate) help: &'static str,
    /// Short form for the footer; empty leaves it out there.
    pub(crate) footer: &'static str,
    /// Where it holds; empty means everywhere.
    pub(crate) views: &'static [View],
    pub(crate) when: When,
}

macro_rules! bindings {
    ($([$($key:expr),*] $action:expr, $word:literal, $help:literal, $footer:literal, [$($view:ident),*] $when:ident;)*) => {
        /// All bindings, in the order of help.
        pub(crate) const BINDINGS: &[Binding] = &[$(Binding {
            keys: &[$($key),*],
            action: $action,
            word: $word,
            help: $help,
            footer: $footer,
            views: &[$(View::$view),*],
            when: When::$when,
        },)*];
    };
}

use Action::*;
use Key::Char as C;

bindings! {
    [C('q'), Key::Ctrl('c')] Quit, "quit", "leave", "quit", [] Always;
    [C('?')] Help, "help", "the keys of this place", "help", [] Always;
    [C(':')] Palette, "palette", "every action by name, or a command line word", "all", [] Always;
    [Key::Esc] Escape, "back", "cancel what runs or is typed, end a search, go back", "", [] Always;
    [C('1')] Show(View::Timeline), "timeline", "all steps of both runs", "", [] Always;
    [C('2')] Show(View::Step), "step", "buffers and launches of the step", "", [] Always;
    [C('3')] Show(View::Values), "print", "values of the buffer", "", [] Always;
    [C('4')] Show(View::Codes), "codes", "codes by codebook and step", "", [] Always;
    [C('5')] Show(View::Kv), "kv", "KV cache by layer and position", "", [] Always;
    [C('6')] Show(View::Sound), "sound", "waveform of both runs", "", [] Always;
    [C('7')] Show(View::Patch), "patches", "patches and what they gave", "", [] Always;
    [C('8')] Show(View::Explain), "evidence", "verdict and evidence", "", [] Always;
    [C('9')] Show(View::History), "writers", "who wrote the element", "", [] Always;
    [Key::Enter] Enter, "open", "look into what the cursor is on", "open", [Timeline, Step, Codes, Kv, Explain, History] Always;
    [C(']')] NextDivergence, "next-divergence", "next step that diverges", "diverged", [] Always;
    [C('[')] PreviousDivergence, "previous-divergence", "previous step that diverges", "", [] Always;
    [C('!')] FirstDivergence, "first-divergence", "to the first difference", "first", [Timeline] Always;
    [C('n')] SearchNext, "search-next", "next hit of the search", "next hit", [] Searching;
    [C('N')] SearchPrevious, "search-previous", "previous hit of the search", "", [] Searching;
    [C('n')] NextStep, "next", "next step", "step", [] NotSearching;
    [C('N')] PreviousStep, "previous", "previous step", "", [] NotSearching;
    [C('s')] Into, "into", "into the step, then launch by launch, executed again up to there", "into", [Timeline, Step, Values] Always;
    [C('S')] IntoBack, "into-back", "the launch before", "", [Step, Values] Always;
    [C('f')] Finish, "finish", "to the end of the step, then out of it", "", [] Always;
    [C('F')] FinishBack, "finish-back", "to the beginning of the step", "", [] Always;
    [C('c')] Continue, "continue", "on to the next watch or break", "", [] Always;
    [C('C')] ContinueBack, "continue-back", "back to the last watch or break", "", [] Always;
    [C('/')] Search, "search", "search buffers (fuzzy) or steps", "search", [] Always;
    [C('g')] Goto, "goto", "to a step: 12, 2:3, 1:codec", "", [] Always;
    [C('m')] SetMark, "mark", "set a mark here", "", [] Always;
    [C('\'')] JumpMark, "jump", "to a mark", "", [] Always;
    [Key::Up, C('k')] Up, "up", "up", "", [] Always;
    [Key::Down, C('j')] Down, "down", "down", "", [] Always;
    [Key::Left, C('h')] Left, "left", "left", "", [] Always;
    [Key::Right, C('l')] Right, "right", "right", "", [] Always;
    [Key::PageUp, Key::Ctrl('b')] PageUp, "page-up", "a page up", "", [] Always;
    [Key::PageDown, Key::Ctrl('f')] PageDown, "page-down", "a page down", "", [] Always;
    [Key::Home] Home, "home", "to the beginning", "", [] Always;
    [Key::End, C('G')] End, "end", "to the end", "", [] Always;
    [C('+')] ZoomIn, "zoom-in", "fewer steps a column", "zoom", [Timeline] Always;
    [C('-')] ZoomOut, "zoom-out", "more steps a column", "", [Timeline] Always;
    [Key::Tab] NextPane, "pane", "the other pane", "pane", [Step] Always;
    [C('b')] BeforeAfter, "before-after", "before the step, after it, at recorded points between", "before/after", [Step, Values, Kv] Always;
    [C('x')] SwapSide, "side", "look at (and patch) the other run", "A/B", [Step, Values, Patch] Always;
    [C('r')] FilterRole, "role", "only buffers of one role", "role", [Step] Always;
    [C('t')] FilterState, "differing", "only what differs, or all", "differing", [Step] Always;
    [C('v')] NextMode, "mode", "list, grid, hex, figures, top", "mode", [Values] Always;
    [C('d')] NextDifference, "difference", "difference: absolute, relative, ULP", "difference", [Values] Always;
    [C('.')] NextDiffering, "next-element", "next element that differs", "differing", [Values] Always;
    [C(',')] PreviousDiffering, "previous-element", "previous element that differs", "", [Values] Always;
    [C('>')] SliceNext, "slice-next", "next slice of the leading axes", "", [Values] Always;
    [C('<')] SlicePrevious, "slice-previous", "previous slice of the leading axes", "", [Values] Always;
    [C('o')] PatchOther, "patch-other", "patch the buffer with what the other run has", "patch", [Step, Values] Always;
    [C('O')] PatchElement, "patch-element", "patch this element with what the other run has", "", [Values] Always;
    [C('=')] PatchValue, "patch-value", "patch with a value to type", "", [Step, Values] Always;
    [C('@')] PatchFromStep, "patch-from-step", "patch with what a run has at another step", "", [Step, Values] Always;
    [C('p')] PatchText, "patch", "a patch as the command line writes it", "write", [Step, Values, Patch] Always;
    [C('R')] Execute, "re-execute", "execute the step again with the patches", "re-execute", [] Always;
    [C('u')] Undo, "undo", "take the last patch back", "undo", [] Always;
    [C('y')] Export, "export", "the same as a command line", "export", [Patch] Always;
    [C('w')] WatchChange, "watch", "stop where this element or buffer changes", "", [Step, Values] Always;
    [C('W')] WatchDiffers, "watch-differs", "stop where it differs between the runs", "", [Step, Values] Always;
    [C('B')] Break, "break", "stop on a condition: nan in hidden, step == 40, last_codes[0][0] == 1025", "", [] Always;
    [] ClearWatches, "clear-watches", "forget all watches and breaks", "", [] Always;
    [C('H')] FindHistory, "history", "who wrote this element last", "history", [Step, Values] Always;
    [C('E')] FindCause, "explain", "look for the cause, in the background", "explain", [Timeline, Explain] Always;
    [] Compare, "diff", "compare the runs again", "", [] Always;
    [C('i')] Info, "info", "what each trace is and what can be done with it", "", [] Always;
    [C('K')] Check, "check", "look for mistakes in each run: checks and the model's rules", "check", [Timeline, Explain] Always;
}

impl Binding {
    /// Whether it holds in a view.
    pub(crate) fn here(&self, view: View, searching: bool) -> bool {
        let when = match self.when {
            When::Always => true,
            When::Searching => searching,
            When::NotSearching => !searching,
        };
        when && (self.views.is_empty() || self.views.contains(&view))
    }

    /// Its keys as people read them.
    pub(crate) fn key_names(&self) -> String {
        self.keys.iter().map(|k| k.name()).collect::<Vec<_>>().join(" ")
    }
}

/// What a key does in a view.
pub(crate) fn action(key: Key, view: View, searching: bool) -> Option<Action> {
    BINDINGS.iter().find(|b| b.here(view, searching) && b.keys.contains(&key)).map(|b| b.action)
}

/// The binding of an action.
pub(crate) fn binding(action: Action) -> Option<&'static Binding> {
    BINDINGS.iter().find(|b| b.action == action)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_key_means_two_things_in_one_place() {
        for view in View::ALL {
            for searching in [false, true] {
                let mut seen = BTreeSet::new();
                for key in BINDINGS.iter().filter(|b| b.here(view, searching)).flat_map(|b| b.keys) {
                    assert!(seen.insert(*key), "{key:?} twice in {view:?}");
                }
            }
        }
    }

    #[test]
    fn every_action_has_one_word_and_help() {
        let mut words = BTreeSet::new();
        for binding in BINDINGS {
            assert!(words.insert(binding.word), "{} twice", binding.word);
            assert!(!binding.help.is_empty() && !binding.help.ends_with('.'), "{}", binding.word);
            assert!(!binding.word.contains(' '), "{}", binding.word);
        }
    }

    #[test]
    fn the_words_of_the_command_line_are_actions() {
        for word in ["info", "print", "history", "diff", "step", "check", "explain"] {
            assert!(BINDINGS.iter().any(|b| b.word == word), "{word}");
        }
    }

    #[test]
    fn n_repeats_a_search_only_while_one_is_active() {
        for view in View::ALL {
            assert_eq!(action(Key::Char('n'), view, false), Some(Action::NextStep));
            assert_eq!(action(Key::Char('n'), view, true), Some(Action::SearchNext));
        }
    }
}
