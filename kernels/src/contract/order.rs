//! Comparison of floats: a total order with NaN lowest and -0 equal to +0.

/// A key whose unsigned order is the order of the values: NaN is 0, below -inf; -0 equals +0.
pub fn order_key(x: f32) -> u32 {
    if x.is_nan() {
        return 0;
    }
    // Adding +0 turns -0 into +0 and changes nothing else.
    let bits = (x + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 }
}

/// Index of the greatest element, ties to the lowest index; 0 for an empty slice.
pub fn argmax(x: &[f32]) -> usize {
    let mut best = 0;
    for i in 1..x.len() {
        if order_key(x[i]) > order_key(x[best]) {
            best = i;
        }
    }
    best
}
