// Conditional channel weighting, in place on a part of a map's channels.
#pragma once

#include "depthwise.h"
#include "pointwise.h"

namespace {

// Channels of a row times weights that hold for squares of factor x factor pixels, and times one weight a channel.
void weighted_row(const float* in, int ld, const float* gate, int gate_ld, int factor, int columns, int channels, const float* scale, float* line) {
    for (int square = 0; square < columns / factor; square++, gate += gate_ld)
        spans(channels, [&](auto zero, int c) {
            using V = decltype(zero);
            V weight = load<V>(gate + c) * load<V>(scale + c);
            for (int x = square * factor; x < (square + 1) * factor; x++) store(line + x * channels + c, load<V>(in + x * ld + c) * weight);
        });
}

// The weights and the depthwise 3x3, in place, and the mean of the result.
void weigh_and_filter(float* map, int ld, int rows, int columns, int channels, const float* gate, int gate_ld, int factor, const float* scale,
                      const float* w, const float* bias, float* mean, float* lines) {
    int size = columns * channels;
    float *above = lines, *mid = lines + size, *below = lines + 2 * size;
    auto weigh = [&](int y, float* to) {
        weighted_row(map + y * columns * ld, ld, gate + (y / factor) * (columns / factor) * gate_ld, gate_ld, factor, columns, channels, scale, to);
    };
    std::memset(above, 0, size * sizeof(float));
    std::memset(mean, 0, channels * sizeof(float));
    weigh(0, mid);
    for (int y = 0; y < rows; y++) {
        if (y + 1 < rows) weigh(y + 1, below);
        else std::memset(below, 0, size * sizeof(float));
        const float* three[3] = {above, mid, below};
        filter_row<1, true>(three, channels, w, bias, nullptr, channels, map + y * columns * ld, ld, columns, 0, mean);
        float* free = above;
        above = mid, mid = below, below = free;
    }
    for (int c = 0; c < channels; c++) mean[c] /= float(rows * columns);
}

void pool(const float* in, int ld, int rows, int columns, int channels, int factor, const float* scale, float* out, int out_ld) {
    float share = 1.f / float(factor * factor);
    for (int y = 0; y < rows / factor; y++)
        for (int x = 0; x < columns / factor; x++, out += out_ld)
            spans(channels, [&](auto zero, int c) {
                using V = decltype(zero);
                V sum{};
                for (int i = 0; i < factor; i++)
                    for (int j = 0; j < factor; j++) sum += load<V>(in + ((y * factor + i) * columns + x * factor + j) * ld + c);
                store(out + c, sum * share * load<V>(scale + c));
            });
}

}  // namespace
