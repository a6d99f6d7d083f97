// An image scaled down: every pixel is the mean of the area that it covers.
#pragma once

#include "vectors.h"

namespace {

typedef int32_t Four __attribute__((vector_size(16)));

// A pixel of the small image covers `count` of the large one from `first` on; the first and the last in part.
struct Cover {
    int first, count;
    float head, inner, tail;

    // In a row or column of `large` pixels that becomes `small`, for pixel `at`.
    Cover(int at, int large, int small) {
        const double scale = (double)large / small, begin = at * scale, end = begin + scale;
        first = (int)begin;
        int last = (int)end;
        if (last >= large || end - last < 1e-6) last--;
        if (last < first) last = first;
        count = last - first + 1;
        inner = (float)(1 / scale);
        head = count == 1 ? 1.f : (float)((first + 1 - begin) / scale);
        tail = (float)((end - last) / scale);
    }

    float weight(int i) const { return i == 0 ? head : i == count - 1 ? tail : inner; }
};

// sum (+)= weight * row, `size` values; a plain loop, for GCC 12 takes vectors of bytes apart to convert them.
template <bool FIRST> inline void add_row(const uint8_t* __restrict row, float weight, float* __restrict sum, int size) {
    for (int i = 0; i < size; i++) sum[i] = (FIRST ? 0.f : sum[i]) + weight * (float)(int32_t)row[i];
}

// `from` (height, width, 3) to `to` (rows, columns, 3), neither larger; strides are in bytes. `scratch` has room for 3 * width + 1
// floats and, behind them, for `columns` Covers.
inline void shrink(const uint8_t* from, int64_t from_stride, int height, int width, uint8_t* to, int64_t to_stride, int rows, int columns,
                   float* scratch) {
    float* sum = scratch;
    Cover* covers = reinterpret_cast<Cover*>(scratch + 3 * width + 1);
    for (int x = 0; x < columns; x++) covers[x] = Cover(x, width, columns);
    sum[3 * width] = 0;  // read with the last pixel, and not used
    for (int y = 0; y < rows; y++) {
        const Cover cover(y, height, rows);
        const uint8_t* row = from + cover.first * from_stride;
        add_row<true>(row, cover.head, sum, 3 * width);
        for (int i = 1; i < cover.count; i++) add_row<false>(row + i * from_stride, cover.weight(i), sum, 3 * width);
        uint8_t* out = to + y * to_stride;
        for (int x = 0; x < columns; x++, out += 3) {
            const Cover& across = covers[x];
            const float* p = sum + 3 * across.first;
            Vec4 pixel = load<Vec4>(p) * across.head;
            for (int i = 1; i < across.count - 1; i++) pixel += load<Vec4>(p + 3 * i) * across.inner;
            if (across.count > 1) pixel += load<Vec4>(p + 3 * (across.count - 1)) * across.tail;
            const Four rounded = __builtin_convertvector(pixel + 0.5f, Four);
            for (int c = 0; c < 3; c++) out[c] = (uint8_t)rounded[c];
        }
    }
}

}  // namespace
