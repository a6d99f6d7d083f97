// Depthwise 3x3 convolutions, padded by one pixel.
#pragma once

#include "vectors.h"

namespace {

// One row of the output for one vector of channels: taps of the rows above, at and below; outside the map is zero.
template <typename V, int STRIDE, bool SUM>
inline V filter(const float* const* rows, int ld, const V* k, V bias, float* out, int out_ld, int columns, int flags) {
    V sum{};
    auto at = [&](int x, int first, int last) {
        V acc = bias;
        for (int r = 0; r < 3; r++)
            for (int c = first; c < last; c++) acc += load<V>(rows[r] + (x * STRIDE + c - 1) * ld) * k[r * 3 + c];
        if (flags & RELU) acc = positive(acc);
        if (SUM) sum += acc;
        store(out + x * out_ld, acc);
    };
    int last = STRIDE == 1 ? columns - 1 : columns;
    at(0, 1, last ? 3 : 2);
    for (int x = 1; x < last; x++) at(x, 0, 3);
    if (STRIDE == 1 && last > 0) at(last, 0, 2);
    return sum;
}

template <int STRIDE, bool SUM>
void filter_row(const float* const* rows, int ld, const float* w, const float* bias, const float* scale, int channels, float* out, int out_ld,
                int columns, int flags, float* sum) {
    spans(channels, [&](auto zero, int c) {
        using V = decltype(zero);
        V k[9];
        for (int t = 0; t < 9; t++) {
            k[t] = load<V>(w + t * channels + c);
            if (scale) k[t] *= load<V>(scale + c);
        }
        const float* at[3] = {rows[0] + c, rows[1] + c, rows[2] + c};
        V s = filter<V, STRIDE, SUM>(at, ld, k, load<V>(bias + c), out + c, out_ld, columns, flags);
        if (SUM) store(sum + c, load<V>(sum + c) + s);
    });
}

void depthwise(const float* in, int ld, float* out, int out_ld, int rows, int columns, int channels, int stride, const float* w, const float* bias,
               const float* scale, int flags, float* zeros) {
    std::memset(zeros, 0, columns * ld * sizeof(float));
    for (int y = 0; y < rows; y += stride) {
        const float* mid = in + y * columns * ld;
        const float* three[3] = {y ? mid - columns * ld : zeros, mid, y + 1 < rows ? mid + columns * ld : zeros};
        float* to = out + (y / stride) * (columns / stride) * out_ld;
        if (stride == 1) filter_row<1, false>(three, ld, w, bias, scale, channels, to, out_ld, columns, flags, nullptr);
        else filter_row<2, false>(three, ld, w, bias, scale, channels, to, out_ld, columns / 2, flags, nullptr);
    }
}

}  // namespace
