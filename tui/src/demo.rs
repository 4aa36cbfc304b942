//! `twinstep demo`: a public report re-created, its cause found and proven; or a fault planted at random.

use crate::device::Device;
use crate::failure::Failure;
use crate::output::{Output, Status};

mod blind;
mod folder;
mod story;
mod upstream;

/// Re-create a public report and find its cause, or find a fault planted at random; in ./twinstep-demo/.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  twinstep demo\n  twinstep demo --blind\n  twinstep demo --blind --seed 7"
)]
pub(crate) struct Args {
    /// Plant a fault at random, search for its cause, then say what was planted.
    #[arg(long)]
    blind: bool,
    /// Which fault: the same number plants the same one.
    #[arg(long, value_name = "N", requires = "blind")]
    seed: Option<u64>,
    /// What runs the launches.
    #[arg(long, value_enum, default_value = "auto")]
    device: Device,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    folder::prepare()?;
    match args.blind {
        true => blind::run(args.seed, args.device, out),
        false => story::run(args.device, out),
    }
}
