//! [`exp`], [`sin`] and [`tanh`] on vectors, step by step as in [`crate::contract`].

use super::lanes::Lanes;
use crate::contract::CANONICAL_F32_NAN;
use crate::contract::coefficients;

/// `c[0] + c[1] x + ...` by Horner's rule, each step an fma.
#[inline(always)]
fn horner<L: Lanes, const N: usize>(lanes: L, c: [f32; N], x: L::F32) -> L::F32 {
    let mut sum = lanes.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        sum = lanes.fma(sum, x, lanes.splat(c[i]));
    }
    sum
}

/// As [`crate::contract::exp`].
#[inline(always)]
pub(super) fn exp<L: Lanes>(lanes: L, x: L::F32) -> L::F32 {
    use coefficients::exp::*;
    let round = lanes.splat(ROUND);
    let n = lanes.sub(lanes.fma(x, lanes.splat(LOG2_E), round), round);
    let r = lanes.fma(n, lanes.splat(-LN2_LO), lanes.fma(n, lanes.splat(-LN2_HI), x));
    let q = horner(lanes, Q, r);
    let p = lanes.add(lanes.fma(lanes.mul(r, r), q, r), lanes.splat(1.0));
    let n = lanes.to_i32(n);
    let half = lanes.halve_i32(n);
    let bias = lanes.splat_i32(127);
    let power = lanes.shift_to_f32::<23>(lanes.add_i32(half, bias));
    let rest = lanes.shift_to_f32::<23>(lanes.add_i32(lanes.sub_i32(n, half), bias));
    let y = lanes.mul(lanes.mul(p, power), rest);
    // Lanes that the scalar form returns early hold anything so far.
    let y = lanes.select(lanes.gt(x, lanes.splat(OVERFLOW)), lanes.splat(f32::INFINITY), y);
    let y = lanes.select(lanes.gt(lanes.splat(UNDERFLOW), x), lanes.splat(0.0), y);
    lanes.select(lanes.is_nan(x), lanes.splat(f32::from_bits(CANONICAL_F32_NAN)), y)
}

/// As [`crate::contract::sin`].
#[inline(always)]
pub(super) fn sin<L: Lanes>(lanes: L, x: L::F32) -> L::F32 {
    use coefficients::sin::*;
    let round = lanes.splat(ROUND);
    let a = lanes.abs(x);
    let n = lanes.sub(lanes.fma(a, lanes.splat(FRAC_1_PI), round), round);
    let r = lanes.fma(n, lanes.splat(-PI_A), a);
    let r = lanes.fma(n, lanes.splat(-PI_C), lanes.fma(n, lanes.splat(-PI_B), r));
    let z = lanes.mul(r, r);
    let s = lanes.fma(lanes.mul(z, horner(lanes, P, z)), r, r);
    let odd = lanes.shift_to_f32::<31>(lanes.to_i32(n));
    let s = lanes.xor_sign(lanes.xor_sign(s, x), odd);
    let nan = lanes.splat(f32::from_bits(CANONICAL_F32_NAN));
    let s = lanes.select(lanes.gt(a, lanes.splat(LIMIT)), nan, s);
    lanes.select(lanes.is_nan(x), nan, s)
}

/// As [`crate::contract::tanh`].
#[inline(always)]
pub(super) fn tanh<L: Lanes>(lanes: L, x: L::F32) -> L::F32 {
    use coefficients::tanh::*;
    let (one, two) = (lanes.splat(1.0), lanes.splat(2.0));
    let a = lanes.abs(x);
    let z = lanes.mul(a, a);
    let small = lanes.fma(lanes.mul(z, horner(lanes, P, z)), a, a);
    let exponential = exp(lanes, lanes.add(a, a));
    let large = lanes.sub(one, lanes.div(two, lanes.add(exponential, one)));
    let magnitude = lanes.select(lanes.gt(lanes.splat(SMALL), a), small, large);
    let magnitude = lanes.select(lanes.gt(lanes.splat(ONE), a), magnitude, one);
    // A magnitude has the sign +, so this is copysign.
    let y = lanes.xor_sign(magnitude, x);
    lanes.select(lanes.is_nan(x), lanes.splat(f32::from_bits(CANONICAL_F32_NAN)), y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;
    use crate::cpu::Extension;
    use crate::cpu::extension::Kernel;

    #[derive(Debug, Clone, Copy)]
    enum Function {
        Exp,
        Sin,
        Tanh,
    }

    impl Function {
        fn scalar(self, x: f32) -> f32 {
            match self {
                Function::Exp => contract::exp(x),
                Function::Sin => contract::sin(x),
                Function::Tanh => contract::tanh(x),
            }
        }
    }

    struct Apply<'a>(Function, &'a [f32], &'a mut [f32]);

    impl Kernel for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) {
            for (x, y) in self.1.chunks(L::COUNT).zip(self.2.chunks_mut(L::COUNT)) {
                let x = lanes.load_part(x, 0.0);
                let result = match self.0 {
                    Function::Exp => exp(lanes, x),
                    Function::Sin => sin(lanes, x),
                    Function::Tanh => tanh(lanes, x),
                };
                lanes.store_part(result, y);
            }
        }
    }

    /// Compares all three functions, on every extension, with the scalar ones.
    fn compare(inputs: impl Iterator<Item = u32>) {
        let mut inputs = inputs.map(f32::from_bits).peekable();
        let mut results = vec![0.0; 4096];
        while inputs.peek().is_some() {
            let x: Vec<f32> = inputs.by_ref().take(results.len()).collect();
            for function in [Function::Exp, Function::Sin, Function::Tanh] {
                let wanted: Vec<f32> = x.iter().map(|&x| function.scalar(x)).collect();
                for extension in Extension::available() {
                    let results = &mut results[..x.len()];
                    extension.run(Apply(function, &x, results));
                    for i in 0..x.len() {
                        let (found, wanted) = (results[i].to_bits(), wanted[i].to_bits());
                        let (name, bits) = (extension.name(), x[i].to_bits());
                        assert_eq!(found, wanted, "{function:?} of {:e} ({bits:#x}), {name}", x[i]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_sample_of_all_inputs() {
        compare((0..=u32::MAX).step_by(if cfg!(miri) { 0x0123_4567 } else { 4099 }));
    }

    #[test]
    fn around_edges() {
        use contract::coefficients::{exp, sin, tanh};
        let edges = [exp::OVERFLOW, exp::UNDERFLOW, -87.336_55, sin::LIMIT, tanh::SMALL, tanh::ONE];
        let powers_of_two = (0..=255).map(|exponent: u32| exponent << 23);
        let all = edges.iter().map(|edge| edge.to_bits()).chain(powers_of_two);
        let reach = if cfg!(miri) { 1 } else { 40 };
        let near =
            all.flat_map(|bits| (0..2 * reach + 1).map(move |i| bits.wrapping_add(i).wrapping_sub(reach)));
        compare(near.flat_map(|bits| [bits, bits ^ 0x8000_0000]));
    }

    #[test]
    #[ignore = "all 2^32 inputs: a quarter of an hour in a release build"]
    fn all_inputs() {
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
            let part = (1u64 << 32).div_ceil(threads);
            for start in (0..1u64 << 32).step_by(part as usize) {
                scope.spawn(move || compare((start..(start + part).min(1 << 32)).map(|bits| bits as u32)));
            }
        });
    }
}
