//! Every screen, at the least size and at a large one, from traces that were recorded on a GPU.

use super::*;

const SIZES: [(u16, u16); 2] = [(80, 24), (200, 60)];

/// Compares the screen after some keys with the one on file.
fn screens(name: &str, keys: &str) {
    for size in SIZES {
        let mut driver = Driver::new("graph-greedy", Some("graph-stale-codes"), size);
        driver.keys(keys);
        insta::assert_snapshot!(format!("{name}-{}x{}", size.0, size.1), driver.screen());
    }
}

macro_rules! screens {
    ($($name:ident $keys:literal;)*) => {$(
        #[test]
        fn $name() {
            screens(stringify!($name), $keys);
        }
    )*};
}

screens! {
    timeline "";
    timeline_zoomed "++";
    step_buffers "\n";
    step_differing "\nt";
    step_filtered "\n/codes\n";
    step_launches "\n\t";
    step_inside "sss";
    values_list "\n/codes_out\n\n";
    values_grid "\n/audio_logits\n\nv";
    values_hex "\n/audio_logits\n\nvv";
    values_figures "\n/audio_logits\n\nvvv";
    values_top "\n/audio_logits\n\nvvvv";
    values_ulps "\n/hidden\n\ndd";
    codes "4";
    kv "5";
    sound "6";
    patch_none "7";
    patch_waiting "\n/last_codes\no7";
    patch_outcome "\nx/last_codes\noR7";
    patched_column "\nx/last_codes\noR2/codes_out\n\n";
    explain_none "8";
    explain "E";
    check "K";
    history_none "9";
    history "\n/hidden\n\nH";
    info "i";
    help "?";
    palette ":";
    palette_typed ":wat";
    prompt "/la";
}

#[test]
fn one_trace_alone() {
    for size in SIZES {
        let mut driver = Driver::new("eager-greedy", None, size);
        insta::assert_snapshot!(format!("alone-timeline-{}x{}", size.0, size.1), driver.screen());
        driver.keys("\n");
        insta::assert_snapshot!(format!("alone-step-{}x{}", size.0, size.1), driver.screen());
        driver.keys("/codes_out\n\n");
        insta::assert_snapshot!(format!("alone-values-{}x{}", size.0, size.1), driver.screen());
    }
}
