//! Delay profiles: how the servers of this model family lead in and ramp down, as data.

use twinstep_kernels::delay_flags;

/// What a code that is not a real one becomes after de-delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// Code 0.
    Zero,
    /// The greatest real code.
    Clamp,
}

/// A delay profile for N codebooks. The fields are the scalars of `delay_mask` and `update_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Its name on the command line and in traces.
    pub name: &'static str,
    /// Bits of [`delay_flags`].
    pub flags: u32,
    /// `delay_count` saturates at N less this.
    pub delay_cap_below: u32,
    /// `delay_count` from which codebook 0 may end the stream, as a fraction of N: N or 0.
    pub eoc_after_lead_in: bool,
    /// Rows after the one that drew EOC: N less this.
    pub countdown_below: u32,
    /// The last row holds no frame of its own.
    pub drop_last_row: bool,
    /// What residual specials become.
    pub residual: Residual,
}

/// The embedded voice's own: T + N - 1 rows, EOC banned for the first N.
pub const VOICE: Profile = Profile {
    name: "voice",
    flags: delay_flags::BAN_SPECIALS | delay_flags::FORCE_RAMP | delay_flags::FEED_LAST_ROW,
    delay_cap_below: 0,
    eoc_after_lead_in: true,
    countdown_below: 2,
    drop_last_row: false,
    residual: Residual::Zero,
};

/// vLLM-Omni's.
pub const OMNI: Profile = Profile {
    name: "omni",
    flags: delay_flags::MASK_LEAD_IN
        | delay_flags::BAN_SPECIALS
        | delay_flags::FORCE_RAMP
        | delay_flags::FEED_LAST_ROW,
    delay_cap_below: 1,
    eoc_after_lead_in: false,
    countdown_below: 1,
    drop_last_row: true,
    residual: Residual::Clamp,
};

/// SGLang-Omni's.
pub const SGLANG: Profile = Profile {
    name: "sglang",
    flags: 0,
    delay_cap_below: 0,
    eoc_after_lead_in: true,
    countdown_below: 2,
    drop_last_row: false,
    residual: Residual::Zero,
};

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 3] = [VOICE, OMNI, SGLANG];
}
