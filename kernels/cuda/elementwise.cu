// Elementwise ops of the talker (ops/elementwise.rs). One thread an element.

KERNEL silu_mul(const float* gate,  // (len)
                const float* up,    // (len)
                float* out,         // (len)
                u64 len) {
    u64 i = grid_index();
    if (i >= len) return;
    float g = gate[i];
    out[i] = canonical(mul(quotient(g, add(1.0f, contract_exp(negated(g)))), up[i]));
}

KERNEL residual_add(float* x,        // (len)
                    const float* y,  // (len)
                    u64 len) {
    u64 i = grid_index();
    if (i < len) x[i] = canonical(add(x[i], y[i]));
}
