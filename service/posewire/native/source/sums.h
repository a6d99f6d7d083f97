// Sums of maps of two sizes.
#pragma once

#include "vectors.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
typedef int32_t Index16 __attribute__((vector_size(64)));

// What picks 16 channels of the result out of 32 of the input: lanes, and their weights, 0 where the channel is elsewhere.
struct Pick {
    Index16 lane;
    Vec16 weight;
};

Vec16 picked(Vec16 low, Vec16 high, Index16 lane) { return (Vec16)_mm512_permutex2var_ps((__m512)low, (__m512i)lane, (__m512)high); }
#endif

// out = in, its channels in another order and weighted, + the coarser map, every pixel of which covers 2 x 2.
void gather(const float* in, const int32_t* order, const float* scale, const float* coarse, int rows, int columns, int channels, float* out,
            float* rectified, int factor, float* scratch) {
    auto weight = [&](int c) { return (scale ? scale[order[c]] : 1.f) * float(factor); };
#if defined(__AVX512F__)
    int vectors = (channels + 15) / 16, pairs = (vectors + 1) / 2;
    Pick* picks = reinterpret_cast<Pick*>(scratch);
    for (int v = 0; v < vectors; v++)
        for (int s = 0; s < pairs; s++)
            for (int i = 0; i < 16; i++) {
                int c = 16 * v + i, from = c < channels ? order[c] - 32 * s : -1;
                bool here = from >= 0 && from < 32;
                picks[v * pairs + s].lane[i] = here ? from : 0;
                picks[v * pairs + s].weight[i] = here ? weight(c) : 0.f;
            }
    for (int y = 0; y < rows; y++) {
        const float* low = coarse ? coarse + (y / 2) * (columns / 2) * channels : nullptr;
        // The last vector of a pixel may reach into the next one, whose own then replaces it, or behind the map, where room is left.
        for (int x = 0; x < columns; x++, in += channels, out += channels) {
            const Pick* pick = picks;
            for (int v = 0; v < vectors; v++) {
                Vec16 sum = low ? load<Vec16>(low + (x / 2) * channels + 16 * v) : Vec16{};
                for (int s = 0; s < pairs; s++, pick++)
                    sum += picked(load<Vec16>(in + 32 * s), load<Vec16>(in + 32 * s + 16), pick->lane) * pick->weight;
                store(out + 16 * v, sum);
                if (rectified) store(rectified + 16 * v, positive(sum));
            }
            if (rectified) rectified += channels;
        }
    }
#else
    float* weights = scratch;
    for (int c = 0; c < channels; c++) weights[c] = weight(c);
    for (int y = 0; y < rows; y++) {
        const float* low = coarse ? coarse + (y / 2) * (columns / 2) * channels : nullptr;
        for (int x = 0; x < columns; x++, in += channels)
            for (int c = 0; c < channels; c += 8, out += 8) {
                const int32_t* from = order + c;
                Vec8 v{in[from[0]], in[from[1]], in[from[2]], in[from[3]], in[from[4]], in[from[5]], in[from[6]], in[from[7]]};
                v *= load<Vec8>(weights + c);
                if (low) v += load<Vec8>(low + (x / 2) * channels + c);
                store(out, v);
                if (rectified) store(rectified, positive(v)), rectified += 8;
            }
    }
#endif
}

// Every pixel of the coarser map as 2 x 2 of the finer.
void repeat(const float* coarse, int rows, int columns, int channels, float* out) {
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++, out += channels)
            std::memcpy(out, coarse + ((y / 2) * (columns / 2) + x / 2) * channels, channels * sizeof(float));
}

// The coarser map at the double size, bilinear with the corners of both maps on each other, + in.
void enlarge(const float* in, const float* coarse, int rows, int columns, int channels, float* out) {
    int low_rows = rows / 2, low_columns = columns / 2;
    for (int y = 0; y < rows; y++) {
        float at_y = float(y) * float(low_rows - 1) / float(rows - 1);
        int y0 = int(at_y), y1 = y0 + 1 < low_rows ? y0 + 1 : y0;
        float fy = at_y - float(y0);
        for (int x = 0; x < columns; x++) {
            float at_x = float(x) * float(low_columns - 1) / float(columns - 1);
            int x0 = int(at_x), x1 = x0 + 1 < low_columns ? x0 + 1 : x0;
            float fx = at_x - float(x0);
            const float *p00 = coarse + (y0 * low_columns + x0) * channels, *p01 = coarse + (y0 * low_columns + x1) * channels;
            const float *p10 = coarse + (y1 * low_columns + x0) * channels, *p11 = coarse + (y1 * low_columns + x1) * channels;
            for (int c = 0; c < channels; c += 8, in += 8, out += 8) {
                Vec8 top = load<Vec8>(p00 + c) * (1 - fx) + load<Vec8>(p01 + c) * fx;
                Vec8 bottom = load<Vec8>(p10 + c) * (1 - fx) + load<Vec8>(p11 + c) * fx;
                store(out, load<Vec8>(in) + top * (1 - fy) + bottom * fy);
            }
        }
    }
}

}  // namespace
