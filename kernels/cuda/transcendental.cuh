// exp, sin and tanh of the numerics contract: the steps of src/contract/{exp,sin,tanh}.rs. A test
// compares the constants with those of the Rust sources, name by name. Put behind contract.cuh.

// e to the x.
INLINE float contract_exp(float x) {
    const float LOG2_E = from_bits(0x3fb8aa3b);
    const float LN2_HI = from_bits(0x3f317000);
    const float LN2_LO = from_bits(0x3805fdf4);
    const float ROUND = 12582912.0f;
    const float OVERFLOW = from_bits(0x42b17217);
    const float UNDERFLOW = -104.0f;
    const u32 Q[5] = {0x3f000000, 0x3e2aaa47, 0x3d2aaa2f, 0x3c091def, 0x3ab6da67};
    if (is_nan(x)) return canonical_nan();
    if (x > OVERFLOW) return infinity();
    if (x < UNDERFLOW) return 0.0f;
    float n = sub(fused(x, LOG2_E, ROUND), ROUND);
    float r = fused(n, negated(LN2_LO), fused(n, negated(LN2_HI), x));
    float q = from_bits(Q[4]);
#pragma unroll
    for (int i = 3; i >= 0; i--) q = fused(q, r, from_bits(Q[i]));
    float p = add(fused(mul(r, r), q, r), 1.0f);
    // Two factors, because 2^n itself may be subnormal or overflow while the result is fine.
    i32 whole = (i32)n;
    i32 half = whole >> 1;
    float first = from_bits((u32)(half + 127) << 23);
    float second = from_bits((u32)(whole - half + 127) << 23);
    return mul(mul(p, first), second);
}

// Sine of x in radians.
INLINE float contract_sin(float x) {
    const float LIMIT = 32768.0f;
    const float FRAC_1_PI = from_bits(0x3ea2f983);
    const float PI_A = from_bits(0x40490000);
    const float PI_B = from_bits(0x3a7da000);
    const float PI_C = from_bits(0x34222169);
    const float ROUND = 12582912.0f;
    const u32 P[5] = {0xbe2aaaab, 0x3c088886, 0xb9500bfe, 0x3638ba4d, 0xb2cd5f4b};
    if (is_nan(x) || magnitude(x) > LIMIT) return canonical_nan();
    // On the magnitude: with the sign inside, the last fma would turn -0 into +0.
    float a = magnitude(x);
    float n = sub(fused(a, FRAC_1_PI, ROUND), ROUND);
    float r = fused(n, negated(PI_C), fused(n, negated(PI_B), fused(n, negated(PI_A), a)));
    float z = mul(r, r);
    float p = from_bits(P[4]);
#pragma unroll
    for (int i = 3; i >= 0; i--) p = fused(p, z, from_bits(P[i]));
    float s = fused(mul(z, p), r, r);
    // sin(r + n pi) = sin(r) for even n, -sin(r) for odd n; sin(-a) = -sin(a).
    u32 sign = (to_bits(x) >> 31) ^ (u32)n;
    return from_bits(to_bits(s) ^ (sign << 31));
}

// Hyperbolic tangent of x.
INLINE float contract_tanh(float x) {
    const float SMALL = 0.625f;
    const float ONE = 9.02f;
    const u32 P[6] = {0xbeaaaaaa, 0x3e088835, 0xbd5cf7ab, 0x3cb1c992, 0xbc060c3e, 0x3b0cad0b};
    if (is_nan(x)) return canonical_nan();
    float a = magnitude(x), result;
    if (a < SMALL) {
        float z = mul(a, a);
        float p = from_bits(P[5]);
#pragma unroll
        for (int i = 4; i >= 0; i--) p = fused(p, z, from_bits(P[i]));
        result = fused(mul(z, p), a, a);
    } else if (a < ONE) {
        result = sub(1.0f, quotient(2.0f, add(contract_exp(add(a, a)), 1.0f)));
    } else {
        result = 1.0f;
    }
    return from_bits(to_bits(result) | (to_bits(x) & 0x80000000));
}
