//! Host copies of serving engines: sound ones accuse nobody, whatever they copy when; one copy that is left out is found.

use proptest::prelude::*;
use twinstep_replayer::Kind;

use crate::found;
use crate::serving::{INPUTS, Served};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sound_engines_accuse_nobody(seed: u64) {
        let plan = Served::random(seed);
        let findings = found(&plan.record().0).findings;
        prop_assert!(findings.is_empty(), "{plan:?}: {findings:#?}");
    }
}

/// Not a test of its own: the figures behind the check's thresholds. `COUNT=N cargo test ... -- --ignored figures`
#[test]
#[ignore = "prints figures"]
fn figures() {
    let count: u64 = std::env::var("COUNT").map_or(2000, |n| n.parse().unwrap());
    let mut falsely: std::collections::BTreeMap<String, u64> = Default::default();
    let mut runs = 0;
    for seed in 0..count {
        let findings = found(&Served::random(seed).record().0).findings;
        runs += u64::from(!findings.is_empty());
        for f in findings {
            println!("{:?} {}", Served::random(seed), f.message);
            *falsely.entry(format!("{} {:?}", f.check, f.buffer)).or_default() += 1;
        }
    }
    println!("sound: {runs} of {count} runs accused: {falsely:#?}");
    for (input, (name, _)) in INPUTS.iter().enumerate().take(4) {
        let [mut planted, mut here, mut elsewhere] = [0; 3];
        for seed in 0..count / 4 {
            let launch = 3 + seed as u32 % 30;
            let plan = Served { omitted: Some((launch, input)), ..Served::plain(seed, 40) };
            let (trace, harmful) = plan.record();
            if !harmful {
                continue;
            }
            planted += 1;
            let findings = found(&trace).findings;
            let is_it = |f: &&twinstep_replayer::Finding| {
                f.kind == Kind::MissingHostWrite
                    && f.step == launch + 1
                    && f.buffer.as_deref().is_some_and(|b| b.starts_with(name))
            };
            here += u64::from(findings.iter().any(|f| is_it(&f)));
            elsewhere += findings.iter().filter(|f| !is_it(f)).count() as u64;
        }
        println!("{name}: {here} of {planted} found, {elsewhere} other findings");
    }
}
