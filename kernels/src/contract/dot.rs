//! The accumulation order of dot products.

/// Segments of a dot product. Eight keep eight independent chains of loads in flight on a GPU
/// and cost nothing on a CPU.
pub const SEGMENTS: usize = 8;

/// Accumulators of a segment.
pub const WIDTH: usize = 64;

/// Elements of a segment of a dot product over `k` elements: `ceil(k / 512) * 64`.
pub const fn segment_len(k: usize) -> usize {
    k.div_ceil(SEGMENTS * WIDTH) * WIDTH
}

/// Sum of 64 accumulators: each 8 neighbours as `((0+1)+(2+3))+((4+5)+(6+7))`, then the 8 sums
/// the same way.
pub fn tree_sum(accumulators: &[f32; WIDTH]) -> f32 {
    let eight = |v: &[f32]| ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
    let mut sums = [0.0; 8];
    for (sum, neighbours) in sums.iter_mut().zip(accumulators.chunks_exact(8)) {
        *sum = eight(neighbours);
    }
    eight(&sums)
}

/// Dot product of `k` pairs. Element `i` of a segment goes to accumulator `i mod 64` by fma in
/// increasing `i` from +0; non-empty segments are added left to right. An empty product is +0.
pub fn dot(k: usize, a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32) -> f32 {
    let len = segment_len(k);
    let mut total = None;
    for start in (0..k).step_by(len.max(1)) {
        let mut accumulators = [0.0f32; WIDTH];
        for i in start..(start + len).min(k) {
            let lane = (i - start) % WIDTH;
            accumulators[lane] = a(i).mul_add(b(i), accumulators[lane]);
        }
        let segment = tree_sum(&accumulators);
        total = Some(total.map_or(segment, |sum: f32| sum + segment));
    }
    total.unwrap_or(0.0)
}
