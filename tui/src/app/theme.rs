//! Colours and glyphs. A state is never told by colour alone: each has a glyph of its own.

use ratatui::style::{Color, Modifier, Style};

/// How much colour the terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    /// `NO_COLOR`: only bold, dim, underlined and reversed.
    None,
    /// The sixteen of every terminal.
    Sixteen,
    /// Twenty-four bits: the palette of Okabe and Ito, told apart by all kinds of sight.
    Full,
}

impl Colours {
    /// What the environment asks for.
    pub(crate) fn from_environment() -> Colours {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let full = std::env::var("COLORTERM").is_ok_and(|v| v == "truecolor" || v == "24bit");
        match (set("NO_COLOR"), full) {
            (true, _) => Colours::None,
            (_, true) => Colours::Full,
            _ => Colours::Sixteen,
        }
    }
}

/// How a step or a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Heat {
    /// Not compared, or not yet.
    Unknown,
    /// Same bits.
    Identical,
    /// Within what another order of additions explains.
    Rounding,
    /// Within what two runs of one mode differ by.
    Noise,
    /// Not judged: the runs say different things.
    Forked,
    /// Only in A.
    OnlyA,
    /// Only in B.
    OnlyB,
    /// Different bits.
    Diverged,
    /// An invariant does not hold.
    RuleBroken,
}

impl Heat {
    pub(crate) const ALL: [Heat; 9] = [
        Heat::Unknown,
        Heat::Identical,
        Heat::Rounding,
        Heat::Noise,
        Heat::Forked,
        Heat::OnlyA,
        Heat::OnlyB,
        Heat::Diverged,
        Heat::RuleBroken,
    ];

    /// Reads the state that a diff document names.
    pub(crate) fn of(state: twinstep_replayer::StepState) -> Heat {
        // By its name in documents, which is fixed; a state that is new there is not taken for another.
        match serde_json::to_value(state).ok().as_ref().and_then(|v| v.as_str()) {
            Some("identical") => Heat::Identical,
            Some("rounding") => Heat::Rounding,
            Some("noise") => Heat::Noise,
            Some("forked") => Heat::Forked,
            Some("only_a") => Heat::OnlyA,
            Some("only_b") => Heat::OnlyB,
            Some("diverged") => Heat::Diverged,
            _ => Heat::Unknown,
        }
    }

    pub(crate) fn glyph(self) -> &'static str {
        match self {
            Heat::Unknown => " ",
            Heat::Identical => "·",
            Heat::Rounding => "~",
            Heat::Noise => "≈",
            Heat::Forked => "/",
            Heat::OnlyA => "A",
            Heat::OnlyB => "B",
            Heat::Diverged => "X",
            Heat::RuleBroken => "!",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Heat::Unknown => "not compared",
            Heat::Identical => "identical",
            Heat::Rounding => "rounding",
            Heat::Noise => "noise",
            Heat::Forked => "forked",
            Heat::OnlyA => "only in A",
            Heat::OnlyB => "only in B",
            Heat::Diverged => "diverged",
            Heat::RuleBroken => "rule broken",
        }
    }

    /// Whether `]` and `[` stop here.
    pub(crate) fn stops(self) -> bool {
        matches!(self, Heat::Diverged | Heat::RuleBroken | Heat::OnlyA | Heat::OnlyB)
    }
}

/// The styles of one terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Theme {
    colours: Colours,
}

impl Theme {
    pub(crate) fn new(colours: Colours) -> Theme {
        Theme { colours }
    }

    fn colour(self, sixteen: Color, full: (u8, u8, u8)) -> Style {
        match self.colours {
            Colours::None => Style::new(),
            Colours::Sixteen => Style::new().fg(sixteen),
            Colours::Full => Style::new().fg(Color::Rgb(full.0, full.1, full.2)),
        }
    }

    /// Ordinary text.
    pub(crate) fn plain(self) -> Style {
        Style::new()
    }

    /// Text of less weight.
    pub(crate) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Titles and column heads.
    pub(crate) fn head(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Keys in footers and help.
    pub(crate) fn key(self) -> Style {
        self.colour(Color::Cyan, (86, 180, 233)).add_modifier(Modifier::BOLD)
    }

    /// Run A.
    pub(crate) fn a(self) -> Style {
        self.colour(Color::Blue, (86, 180, 233))
    }

    /// Run B.
    pub(crate) fn b(self) -> Style {
        self.colour(Color::Yellow, (230, 159, 0))
    }

    /// What a patched step gives.
    pub(crate) fn patched(self) -> Style {
        self.colour(Color::Magenta, (204, 121, 167)).add_modifier(Modifier::BOLD)
    }

    /// Something that is right.
    pub(crate) fn good(self) -> Style {
        self.colour(Color::Cyan, (0, 158, 115))
    }

    /// Something that is wrong.
    pub(crate) fn bad(self) -> Style {
        self.colour(Color::Red, (213, 94, 0)).add_modifier(Modifier::BOLD)
    }

    /// What the cursor is on.
    pub(crate) fn cursor(self) -> Style {
        // One bar: colours and dimness of what lies under it would break it into patches.
        let bar = Style::new().fg(Color::Reset).bg(Color::Reset);
        bar.add_modifier(Modifier::REVERSED).remove_modifier(Modifier::DIM)
    }

    pub(crate) fn heat(self, heat: Heat) -> Style {
        match heat {
            Heat::Unknown => self.dim(),
            Heat::Identical => self.good(),
            Heat::Rounding | Heat::Noise => self.colour(Color::Blue, (0, 114, 178)),
            Heat::Forked => self.dim(),
            Heat::OnlyA => self.a().add_modifier(Modifier::BOLD),
            Heat::OnlyB => self.b().add_modifier(Modifier::BOLD),
            Heat::Diverged => self.bad(),
            Heat::RuleBroken => self
                .colour(Color::Magenta, (240, 228, 66))
                .add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_own_glyph_and_word() {
        for (i, x) in Heat::ALL.iter().enumerate() {
            for y in &Heat::ALL[..i] {
                assert_ne!(x.glyph(), y.glyph());
                assert_ne!(x.word(), y.word());
            }
        }
    }

    #[test]
    fn without_colour_no_style_has_one() {
        let theme = Theme::new(Colours::None);
        let mut styles = vec![theme.key(), theme.a(), theme.b(), theme.patched(), theme.good(), theme.bad()];
        styles.extend(Heat::ALL.map(|heat| theme.heat(heat)));
        assert!(styles.iter().all(|style| style.fg.is_none() && style.bg.is_none()));
    }
}
