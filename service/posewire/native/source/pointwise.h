// 1x1 convolutions: out (M, N) = in (M, K) x weights, cut into panels of columns.
#pragma once

#include "vectors.h"

namespace {

// PX rows by NV vectors of the output, in registers from the first to the last channel of the input.
template <typename V, int NV, int PX>
inline void tile(const float* in, int ld, const float* w, int w_ld, int k, float* out, int out_ld, const float* bias, int flags) {
    constexpr int L = lanes<V>;
    V acc[PX][NV];
    for (int v = 0; v < NV; v++) {
        V b = bias ? load<V>(bias + L * v) : V{};
        for (int p = 0; p < PX; p++) acc[p][v] = flags & ACCUMULATE ? load<V>(out + p * out_ld + L * v) + b : b;
    }
    for (int i = 0; i < k; i++, w += w_ld) {
        V row[NV];
        for (int v = 0; v < NV; v++) {
            row[v] = load<V>(w + L * v);
            IN_REGISTER(row[v]);
        }
        for (int p = 0; p < PX; p++) {
            V x = all<V>(in[p * ld + i]);
            IN_REGISTER(x);
            for (int v = 0; v < NV; v++) acc[p][v] += row[v] * x;
        }
    }
    for (int p = 0; p < PX; p++)
        for (int v = 0; v < NV; v++) {
            V r = acc[p][v];
            if (flags & RELU) r = positive(r);
            if (flags & SIGMOID) r = sigmoid(r);
            store(out + p * out_ld + L * v, r);
        }
}

template <typename V, int NV, int PX>
void columns(const float* in, int ld, const float* w, int w_ld, int m, int k, float* out, int out_ld, const float* bias, int flags) {
    int i = 0;
    for (; i + PX <= m; i += PX) tile<V, NV, PX>(in + i * ld, ld, w, w_ld, k, out + i * out_ld, out_ld, bias, flags);
    if constexpr (PX > 4)
        for (; i + 4 <= m; i += 4) tile<V, NV, 4>(in + i * ld, ld, w, w_ld, k, out + i * out_ld, out_ld, bias, flags);
    for (; i < m; i++) tile<V, NV, 1>(in + i * ld, ld, w, w_ld, k, out + i * out_ld, out_ld, bias, flags);
}

// Eights of the next panel when `left` eights are left; plan.py cuts the weights by the same rule.
int panel_width(int left) { return left % 10 == 0 ? 10 : left % 5 == 0 ? 5 : left > 8 ? 8 : left == 6 || left == 7 ? 4 : left; }

void panel(int eights, const float* in, int ld, const float* w, int m, int k, float* out, int out_ld, const float* bias, int flags) {
    int w_ld = 8 * eights;
#if defined(__AVX512F__)
    switch (eights) {
        case 10: return columns<Vec16, 5, 4>(in, ld, w, w_ld, m, k, out, out_ld, bias, flags);
        case 8: return columns<Vec16, 4, 6>(in, ld, w, w_ld, m, k, out, out_ld, bias, flags);
        case 5: return columns<Vec8, 5, 4>(in, ld, w, w_ld, m, k, out, out_ld, bias, flags);
        case 4: return columns<Vec16, 2, 12>(in, ld, w, w_ld, m, k, out, out_ld, bias, flags);
        case 3: return columns<Vec8, 3, 8>(in, ld, w, w_ld, m, k, out, out_ld, bias, flags);
        case 2: return columns<Vec16, 1, 12>(in, ld, w, w_ld, m, k, out, out_ld, bias, flags);
        default: return columns<Vec8, 1, 12>(in, ld, w, w_ld, m, k, out, out_ld, bias, flags);
    }
#else
    int done = 0;
    auto next = [&](int width) {
        int at = 8 * done;
        done += width;
        return at;
    };
    while (done < eights) {
        const float* b = bias ? bias + 8 * done : nullptr;
        int at = next(eights - done >= 2 ? 2 : 1);
        if (8 * done - at == 16) columns<Vec8, 2, 6>(in, ld, w + at, w_ld, m, k, out + at, out_ld, b, flags);
        else columns<Vec8, 1, 12>(in, ld, w + at, w_ld, m, k, out + at, out_ld, b, flags);
    }
#endif
}

void pointwise(const float* in, int ld, const float* w, int m, int k, int n, float* out, int out_ld, const float* bias, int flags,
               const float* scale, float* scratch) {
    for (int left = n / 8; left > 0;) {
        int eights = panel_width(left);
        const float* weights = w;
        if (scale) {
            for (int i = 0; i < k; i++)
                for (int v = 0; v < eights; v++) store(scratch + (i * eights + v) * 8, load<Vec8>(w + (i * eights + v) * 8) * scale[i]);
            weights = scratch;
        }
        panel(eights, in, ld, weights, m, k, out, out_ld, bias, flags);
        w += k * eights * 8, out += eights * 8, left -= eights;
        if (bias) bias += eights * 8;
    }
}

}  // namespace
