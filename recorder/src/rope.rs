//! Rotary position embedding angles, made on the host and recorded.

/// Cosines and sines, each `[positions, head_dim / 2]`: angle `position * theta^(-2 i / head_dim)` in
/// f64, rounded once to f32 (Su et al.: RoFormer; 2021).
pub(crate) fn table(positions: usize, head_dim: usize, theta: f64) -> (Vec<f32>, Vec<f32>) {
    let half = head_dim / 2;
    let frequencies: Vec<f64> = (0..half).map(|i| theta.powf(-((2 * i) as f64) / head_dim as f64)).collect();
    let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f));
    angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip()
}
