// The transcendental functions by themselves, one thread an element: no op, but what
// examples/gpu_parity compares with the Rust functions over all inputs.

KERNEL contract_exp_f32(const float* x,  // (len)
                        float* out,      // (len)
                        u64 len) {
    u64 i = grid_index();
    if (i < len) out[i] = contract_exp(x[i]);
}

KERNEL contract_sin_f32(const float* x,  // (len)
                        float* out,      // (len)
                        u64 len) {
    u64 i = grid_index();
    if (i < len) out[i] = contract_sin(x[i]);
}

KERNEL contract_tanh_f32(const float* x,  // (len)
                         float* out,      // (len)
                         u64 len) {
    u64 i = grid_index();
    if (i < len) out[i] = contract_tanh(x[i]);
}
