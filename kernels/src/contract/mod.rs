//! The scalar arithmetic of the numerics contract: what `NUMERICS.md` says in words.
//!
//! Everything that an op computes is built from these functions and from single IEEE operations.

mod dot;
mod exp;
mod order;
mod philox;
mod round;
mod sin;
mod tanh;

pub use dot::{SEGMENTS, WIDTH, dot, segment_len, tree_sum};
pub use exp::exp;
pub use order::{argmax, order_key};
pub use philox::philox4x32_10;
pub use round::{
    CANONICAL_BF16_NAN, CANONICAL_F16_NAN, CANONICAL_F32_NAN, bf16_to_f32, canonical, f16_to_f32,
    f32_to_bf16, f32_to_f16,
};
pub use sin::sin;
pub use tanh::tanh;

/// Coefficients shared by the scalar, the vectorised and (as text in `.cu` files, compared by a
/// test) the CUDA forms.
pub mod coefficients {
    pub use super::exp::coefficients as exp;
    pub use super::sin::coefficients as sin;
    pub use super::tanh::coefficients as tanh;
}
