//! exp, sin and tanh, input by input.

use rayon::prelude::*;

use super::kernels::contract::coefficients;
use super::kernels::{ContractFunction, CudaBackend, Error};

/// Inputs compared at a time.
const BLOCK: u64 = 1 << 26;

/// The `index`-th input: all bit patterns once, in an order that visits both signs, all exponents and
/// the ends of the range early.
fn input(index: u64) -> f32 {
    f32::from_bits((index as u32).reverse_bits())
}

/// Inputs at which a function changes its formula, and their neighbours.
fn edges() -> Vec<f32> {
    use coefficients::{exp, sin, tanh};
    let special = [0.0, 1.0, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), f32::NAN];
    let borders = [exp::OVERFLOW, exp::UNDERFLOW, 88.0, 103.97, 87.34, sin::LIMIT, tanh::SMALL, tanh::ONE];
    let around =
        |x: &f32| (-4..=4).map(|step: i32| f32::from_bits(x.to_bits().wrapping_add_signed(step))).collect();
    let positive: Vec<f32> = special.iter().chain(&borders).flat_map::<Vec<f32>, _>(around).collect();
    positive.iter().map(|x| -x).chain(positive.iter().copied()).collect()
}

/// Number of inputs whose bits differ, and the first of them.
fn differences(x: &[f32], device: &[f32], cpu: impl Fn(f32) -> f32 + Sync) -> (usize, Option<f32>) {
    let differs = |i: &usize| cpu(x[*i]).to_bits() != device[*i].to_bits();
    let count = (0..x.len()).into_par_iter().filter(differs).count();
    (count, (0..x.len()).into_par_iter().find_first(differs).map(|i| x[i]))
}

/// exp with the least bit of one coefficient turned, the rest as in the contract: what a slip in a
/// `.cu` file would look like.
fn exp_with_a_slip(x: f32) -> f32 {
    use coefficients::exp::*;
    if x.is_nan() || !(UNDERFLOW..=OVERFLOW).contains(&x) {
        return ContractFunction::Exp.on_cpu(x);
    }
    let n = x.mul_add(LOG2_E, ROUND) - ROUND;
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, x));
    let slip = [Q[0], f32::from_bits(Q[1].to_bits() ^ 1), Q[2], Q[3]];
    let q = slip.iter().rev().fold(Q[4], |q, &c| q.mul_add(r, c));
    let p = (r * r).mul_add(q, r) + 1.0;
    let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    let (n, half) = (n as i32, (n as i32) >> 1);
    p * power(half) * power(n - half)
}

/// Compares all functions at the edges and at the first `inputs` inputs.
pub(crate) fn compare(cuda: &mut CudaBackend, inputs: u64) -> Result<bool, Error> {
    println!("\nfunction        inputs  differing");
    let mut equal = true;
    let mut slip_found = 0;
    for function in ContractFunction::ALL {
        let (mut differing, mut first) = (0, None);
        let mut look = |x: &[f32], slip_found: &mut usize| -> Result<(), Error> {
            let device = cuda.evaluate(function, x)?;
            let (count, at) = differences(x, &device, |x| function.on_cpu(x));
            (differing, first) = (differing + count, first.or(at));
            if function == ContractFunction::Exp {
                *slip_found += differences(x, &device, exp_with_a_slip).0;
            }
            Ok(())
        };
        look(&edges(), &mut slip_found)?;
        for start in (0..inputs).step_by(BLOCK as usize) {
            let end = inputs.min(start + BLOCK);
            let x: Vec<f32> = (start..end).into_par_iter().map(input).collect();
            look(&x, &mut slip_found)?;
        }
        println!("{:<8} {:>13} {differing:>10}", function.name(), inputs + edges().len() as u64);
        if let Some(x) = first {
            println!("         first at {x:e} ({:#010x})", x.to_bits());
        }
        equal &= differing == 0;
    }
    println!("a coefficient of exp off by one bit: {slip_found} differences");
    Ok(equal && slip_found > 0)
}
