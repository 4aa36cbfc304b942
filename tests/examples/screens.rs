//! Pictures of the terminal UI for the documentation: the real binary on recorded traces in a
//! pseudo-terminal, its screen as SVG.
//!
//! `cargo run -p twinstep-tests --example screens [FOLDER]`; by default into `tui/screens/`.

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use twinstep_tests::root;
use twinstep_tests::screen::Screen;
use vt100::Color;

/// Width and height of a cell in the picture.
const CELL: (f64, f64) = (8.4, 18.0);
const FOREGROUND: &str = "#d8dee9";
const BACKGROUND: &str = "#14181f";

/// A picture: its name, its size in lines and columns, and keys with what the screen then shows.
type Picture = (&'static str, (u16, u16), &'static [(&'static str, &'static str)]);

const PAIR: [&str; 2] = ["graph-greedy.twin", "graph-stale-codes.twin"];

const PICTURES: [Picture; 8] = [
    ("timeline", (30, 110), &[("", "phases of step 2")]),
    ("step", (40, 160), &[("\r", "by dataflow"), ("t", "differing")]),
    ("launches", (30, 110), &[("ss", "after 1 of"), ("sssss", "after 6 of")]),
    ("values", (30, 110), &[("\r", "by dataflow"), ("/hidden\r\r", "elements differ")]),
    (
        "logits",
        (34, 180),
        &[("\r", "by dataflow"), ("/audio_logits\r\rvvvv", "greatest first"), ("kkk", "greatest first")],
    ),
    ("codes", (30, 110), &[("4", "cb 3")]),
    ("sound", (34, 130), &[("6", "other samples")]),
    (
        "patch",
        (30, 110),
        &[("\rx", "run B"), ("/last_codes\r", "`last_codes`"), ("oR", "equals A: all"), ("7", "self-check")],
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).map_or_else(|| root().join("tui/screens"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    for (name, size, keys) in PICTURES {
        let samples = root().join("traces/samples");
        let mut screen = Screen::with(&samples, &PAIR, size, &[("COLORTERM", "truecolor")]);
        screen.shows("first difference");
        screen.shows("launches in A");
        for (typed, shown) in keys {
            screen.keys(typed);
            screen.shows(shown);
        }
        // What is still being read arrives.
        let mut written = 0;
        while screen.raw.len() != written {
            written = screen.raw.len();
            screen.take(Duration::from_millis(500));
        }
        std::fs::write(folder.join(format!("{name}.svg")), svg(screen.parser.screen())?)?;
        screen.keys("\x03");
        screen.ends();
        println!("{name}.svg");
    }
    Ok(())
}

fn svg(screen: &vt100::Screen) -> Result<String, std::fmt::Error> {
    let (rows, cols) = screen.size();
    let (rows, cols) = (rows.get(), cols.get());
    let (width, height) = (f64::from(cols) * CELL.0 + 16.0, f64::from(rows) * CELL.1 + 16.0);
    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}">"#
    )?;
    writeln!(svg, r#"<rect width="100%" height="100%" rx="6" fill="{BACKGROUND}"/>"#)?;
    writeln!(
        svg,
        r#"<g font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14" xml:space="preserve" style="white-space:pre">"#
    )?;
    for row in 0..rows {
        let mut col = 0;
        while col < cols {
            let look = look(screen, row, col);
            let mut text = String::new();
            let start = col;
            while col < cols && self::look(screen, row, col) == look {
                let contents = screen.cell(row, col).map_or("", |cell| cell.contents());
                text.push_str(if contents.is_empty() { " " } else { contents });
                col += 1;
            }
            draw(&mut svg, (row, start, col), &look, &text)?;
        }
    }
    writeln!(svg, "</g>\n</svg>")?;
    Ok(svg)
}

#[derive(PartialEq)]
struct Look {
    foreground: String,
    background: String,
    bold: bool,
    dim: bool,
    underline: bool,
}

fn look(screen: &vt100::Screen, row: u16, col: u16) -> Look {
    let Some(cell) = screen.cell(row, col) else {
        return Look {
            foreground: FOREGROUND.to_owned(),
            background: BACKGROUND.to_owned(),
            bold: false,
            dim: false,
            underline: false,
        };
    };
    let (mut foreground, mut background) =
        (colour(cell.fgcolor(), FOREGROUND), colour(cell.bgcolor(), BACKGROUND));
    if cell.inverse() {
        std::mem::swap(&mut foreground, &mut background);
    }
    Look { foreground, background, bold: cell.bold(), dim: cell.dim(), underline: cell.underline() }
}

fn colour(colour: Color, default: &str) -> String {
    const SIXTEEN: [&str; 16] = [
        "#000000", "#d55e00", "#009e73", "#e69f00", "#0072b2", "#cc79a7", "#56b4e9", "#d8dee9", "#5c6370",
        "#d55e00", "#009e73", "#e69f00", "#0072b2", "#cc79a7", "#56b4e9", "#ffffff",
    ];
    match colour {
        Color::Default => default.to_owned(),
        Color::Idx(i) => SIXTEEN.get(usize::from(i)).copied().unwrap_or(default).to_owned(),
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
    }
}

fn draw(svg: &mut String, (row, start, end): (u16, u16, u16), look: &Look, text: &str) -> std::fmt::Result {
    let (x, y) = (f64::from(start) * CELL.0 + 8.0, f64::from(row) * CELL.1 + 8.0);
    let width = f64::from(end - start) * CELL.0;
    if look.background != BACKGROUND {
        writeln!(
            svg,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{:.1}" fill="{}"/>"#,
            CELL.1, look.background
        )?;
    }
    if text.trim().is_empty() {
        return Ok(());
    }
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let bold = if look.bold { r#" font-weight="bold""# } else { "" };
    let dim = if look.dim { r#" opacity="0.6""# } else { "" };
    let line = if look.underline { r#" text-decoration="underline""# } else { "" };
    // The length is said, so that another font does not move the columns.
    writeln!(
        svg,
        r#"<text x="{x:.1}" y="{:.1}" fill="{}" textLength="{width:.1}" lengthAdjust="spacingAndGlyphs"{bold}{dim}{line}>{escaped}</text>"#,
        y + 13.5,
        look.foreground
    )
}
