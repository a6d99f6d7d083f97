// Vectors of floats by the compilers' vector extensions: the same source for AVX2, AVX-512 and NEON.
#pragma once

#include <cstdint>
#include <cstring>

namespace {

// Keeps a value in a register: GCC would rather load it again for every use, and the loads would be what limits.
#if defined(__x86_64__)
#define IN_REGISTER(v) asm("" : "+v"(v))
#else
#define IN_REGISTER(v) ((void)0)
#endif

typedef float Vec8 __attribute__((vector_size(32)));
typedef float Vec4 __attribute__((vector_size(16)));
typedef float Vec16 __attribute__((vector_size(64)));

#if defined(__AVX512F__)
using Widest = Vec16;
#else
using Widest = Vec8;
#endif

template <typename V> constexpr int lanes = sizeof(V) / sizeof(float);
// By memcpy: places are aligned to a float only.
template <typename V> V load(const float* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <typename V> void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
template <typename V> V all(float x) { return x - V{}; }
template <typename V> V positive(V v) { return v > 0 ? v : V{}; }

constexpr int WIDEST = lanes<Widest>;

// Calls f(vector, c) for all channels, a multiple of 4, in the widest vectors that fit.
template <typename F> inline void spans(int channels, F f) {
    int c = 0;
    for (; c + WIDEST <= channels; c += WIDEST) f(Widest{}, c);
    if (WIDEST > 8 && c + 8 <= channels) f(Vec8{}, c), c += 8;
    if (c < channels) f(Vec4{}, c);
}

template <typename V> struct Integers;
template <> struct Integers<Vec8> {
    typedef int32_t type __attribute__((vector_size(32)));
};
template <> struct Integers<Vec16> {
    typedef int32_t type __attribute__((vector_size(64)));
};

// e^x for x within +-87, where it is cut: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes' expf).
template <typename V> V exponential(V x) {
    using I = typename Integers<V>::type;
    x = x < -87.f ? all<V>(-87.f) : x;
    x = x > 87.f ? all<V>(87.f) : x;
    V t = x * 1.44269504088896341f;
    I n = __builtin_convertvector(t + (t < 0 ? all<V>(-0.5f) : all<V>(0.5f)), I);
    V whole = __builtin_convertvector(n, V);
    V r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    V p = all<V>(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    I power = (n + 127) << 23;
    V scale;
    std::memcpy(&scale, &power, sizeof scale);
    return p * scale;
}

// The logistic function.
template <typename V> V sigmoid(V x) { return 1.f / (1.f + exponential(-x)); }

// What becomes of an output.
enum Flag : int32_t { ACCUMULATE = 1, RELU = 2, SIGMOID = 4 };

}  // namespace
