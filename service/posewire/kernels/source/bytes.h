// Layers on maps of 8 bits without a sign, for processors with VNNI.
//
// A map is (rows + 2, columns + 2, channels): around it lies a border of one pixel, which is zero where a 3x3 convolution reads it. A
// byte b stands for b times the map's scale; nothing is ever negative, for every convolution ends in a rectifier.
#pragma once

#include "entry.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

namespace {

// What becomes of a sum: rounded to a byte; then, as they are asked for, added to another map's; then brought to another scale.
struct Ending {
    const float* factors;     // of the sums, one an output channel
    const uint8_t* residual;  // the other map's pixel, or null
    int residual_ld;
    float own, other, again;  // factors of the byte and of the other map's; and of what comes out, 0 for none

    bool plain() const { return !residual && again == 0; }
};

// Keeps GCC from a register, and so from a place on the stack, for each pixel of a tile.
#define ONE_REGISTER(pointer) asm("" : "+r"(pointer))

inline __m512 as_floats(const uint8_t* p) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p))); }

inline __m512i cut(__m512i v) { return _mm512_min_epi32(_mm512_max_epi32(v, _mm512_setzero_si512()), _mm512_set1_epi32(255)); }

// To the nearest, ties to even; 0..255.
inline __m512i rounded(__m512 v) { return cut(_mm512_cvtps_epi32(v)); }

inline void store_bytes(uint8_t* p, __m512i v) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(v)); }

// A sum's byte as a whole number, which may still lie outside 0..255.
inline __m512i ended(__m512i sum, const Ending& ending, int c, const uint8_t* residual) {
    const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(ending.factors + c)));
    if (ending.plain()) return whole;
    __m512 byte = _mm512_cvtepi32_ps(cut(whole));
    if (residual) {
        const __m512 other = _mm512_mul_ps(as_floats(residual + c), _mm512_set1_ps(ending.other));
        byte = _mm512_cvtepi32_ps(cut(_mm512_cvtps_epi32(_mm512_fmadd_ps(byte, _mm512_set1_ps(ending.own), other))));
    }
    return _mm512_cvtps_epi32(ending.again != 0 ? _mm512_mul_ps(byte, _mm512_set1_ps(ending.again)) : byte);
}

// Four vectors of whole numbers cut to 0..255, one after the other.
inline __m512i packed(const __m512i* four) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(four[0], four[1]), _mm512_packs_epi32(four[2], four[3]));
    return _mm512_permutexvar_epi32(order, bytes);
}

// What becomes of the sums of a tile; `residual` is the other map's pixel under the first of `out`.
template <int NV, int PX>
inline void finish(__m512i (&acc)[PX][NV], const Ending& ending, int first, const uint8_t* residual, uint8_t* out, int out_ld) {
    __m512i* vectors = acc[0];
#pragma GCC unroll 32
    for (int i = 0; i < PX * NV; i++)
        vectors[i] = ended(vectors[i], ending, first + i % NV * 16, residual ? residual + i / NV * ending.residual_ld : nullptr);
#pragma GCC unroll 32
    for (int i = 0; i < PX * NV; i += 4) {
        uint8_t* to = out + i / NV * out_ld + first;
        if (PX * NV - i < 4) {
            for (int j = 0; i + j < PX * NV; j++) store_bytes(to + j / NV * out_ld + j % NV * 16, cut(vectors[i + j]));
            break;
        }
        const __m512i bytes = packed(vectors + i);
        if (NV == 2) {
            _mm256_storeu_si256((__m256i*)to, _mm512_castsi512_si256(bytes));
            _mm256_storeu_si256((__m256i*)(to + out_ld), _mm512_extracti64x4_epi64(bytes, 1));
        } else {
            _mm_storeu_si128((__m128i*)to, _mm512_castsi512_si128(bytes));
            _mm_storeu_si128((__m128i*)(to + out_ld), _mm512_extracti32x4_epi32(bytes, 1));
            _mm_storeu_si128((__m128i*)(to + 2 * out_ld), _mm512_extracti32x4_epi32(bytes, 2));
            _mm_storeu_si128((__m128i*)(to + 3 * out_ld), _mm512_extracti32x4_epi32(bytes, 3));
        }
    }
}

// PX pixels of a row by NV vectors of 16 outputs, in registers from the first tap to the last. `step` and `line` are the bytes from the
// input of one output pixel to the next, and from row to row.
template <int NV, int PX>
inline void byte_tile(const uint8_t* in, int ld, int step, int line, int side, int k, const int8_t* w, const int32_t* bias, const Ending& ending,
                      int first, const uint8_t* residual, uint8_t* out, int out_ld) {
    __m512i acc[PX][NV];
    for (int v = 0; v < NV; v++)
        for (int p = 0; p < PX; p++) acc[p][v] = _mm512_loadu_si512(bias + first + 16 * v);
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            const uint8_t* tap = in + y * line + x * ld;
            for (int c = 0; c < k; c += 16, w += 256 * NV) {
                __m512i rows[4][NV];
                for (int i = 0; i < 4; i++)
                    for (int v = 0; v < NV; v++) rows[i][v] = _mm512_loadu_si512(w + 64 * (i * NV + v));
                const uint8_t* at = tap + c;
                for (int p = 0; p < PX; p++, at += step) {
                    ONE_REGISTER(at);
                    for (int i = 0; i < 4; i++) {
                        int32_t four;
                        std::memcpy(&four, at + 4 * i, 4);
                        __m512i pixel = _mm512_set1_epi32(four);
                        IN_REGISTER(pixel);
                        for (int v = 0; v < NV; v++) acc[p][v] = _mm512_dpbusd_epi32(acc[p][v], pixel, rows[i][v]);
                    }
                }
            }
        }
    finish<NV, PX>(acc, ending, first, residual, out, out_ld);
}

template <int NV>
void byte_panel(const uint8_t* in, int ld, int line, int rows, int columns, int side, int stride, int k, const int8_t* w, const int32_t* bias,
                const Ending& ending, int first, uint8_t* out, int out_ld) {
    const int step = stride * ld;
    for (int y = 0; y < rows; y++) {
        const uint8_t* from = in + y * stride * line;
        const uint8_t* residual = ending.residual ? ending.residual + y * (columns + 2) * ending.residual_ld : nullptr;
        uint8_t* to = out + y * (columns + 2) * out_ld;
        int x = 0;
        auto tile = [&](auto px) {
            constexpr int PX = decltype(px)::value;
            for (; x + PX <= columns; x += PX)
                byte_tile<NV, PX>(from + x * step, ld, step, line, side, k, w, bias, ending, first, residual ? residual + x * ending.residual_ld : nullptr,
                                  to + x * out_ld, out_ld);
        };
        tile(Number<10>{});
        tile(Number<4>{});
        tile(Number<1>{});
    }
}

// Rows `first` to `last` of a 1x1 or 3x3 convolution, `in` and `out` at the first pixel that is not border. Weights are in panels of 32 outputs, the last of 16
// where that is left: (side, side, k / 4, outputs, 4).
void convolve(const uint8_t* in, int ld, int first, int last, int columns, int side, int stride, int k, int n, const int8_t* w,
              const int32_t* bias, Ending ending, uint8_t* out, int out_ld) {
    const int line = (columns * stride + 2) * ld, rows = last - first;
    in += first * stride * line - (side == 3 ? line + ld : 0);
    out += first * (columns + 2) * out_ld;
    if (ending.residual) ending.residual += first * (columns + 2) * ending.residual_ld;
    for (int c = 0; c < n; c += 32) {
        if (n - c >= 32) byte_panel<2>(in, ld, line, rows, columns, side, stride, k, w, bias, ending, c, out, out_ld);
        else byte_panel<1>(in, ld, line, rows, columns, side, stride, k, w, bias, ending, c, out, out_ld);
        w += side * side * k * 32;
    }
}

// From the picture to rows `first` to `last` of a map of 16 channels; in float32, then rounded.
void entry_bytes(const uint8_t* picture, int first, int last, int columns, const float* border, const float* w, const float* bias, float factor, uint8_t* out,
                 int ld, float* lines) {
    constexpr int PX = 10;
    entry_rows(picture, first, last, columns, border, lines, [&](const float* const* line, int y) {
        auto tile = [&](auto px, int x) {
            constexpr int N = decltype(px)::value;
            __m512 acc[N];
            for (int p = 0; p < N; p++) acc[p] = _mm512_loadu_ps(bias);
            for (int r = 0; r < 3; r++)
                for (int t = 0; t < 9; t++) {
                    const __m512 weights = _mm512_loadu_ps(w + (r * 9 + t) * 16);
                    for (int p = 0; p < N; p++) acc[p] = _mm512_fmadd_ps(weights, _mm512_set1_ps(line[r][(x + p) * 6 + t]), acc[p]);
                }
            uint8_t* to = out + (y * (columns / 2 + 2) + x) * ld;
            for (int p = 0; p < N; p++) store_bytes(to + p * ld, rounded(_mm512_mul_ps(acc[p], _mm512_set1_ps(factor))));
        };
        int x = 0;
        for (; x + PX <= columns / 2; x += PX) tile(Number<PX>{}, x);
        for (; x < columns / 2; x++) tile(Number<1>{}, x);
    });
}

// A map into (a part of) another of `size` times its size, every pixel as size x size, brought to another scale unless `factor` is 1.
void copy_bytes(const uint8_t* in, int ld, int rows, int columns, int channels, int size, float factor, uint8_t* out, int out_ld) {
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++) {
            const uint8_t* from = in + ((y / size) * (columns / size + 2) + x / size) * ld;
            uint8_t* to = out + (y * (columns + 2) + x) * out_ld;
            if (factor == 1.f) std::memcpy(to, from, channels);
            else
                for (int c = 0; c < channels; c += 16) store_bytes(to + c, rounded(_mm512_mul_ps(as_floats(from + c), _mm512_set1_ps(factor))));
        }
}

// The maxima of 5 x 5 pixels.
void maxima(const uint8_t* in, int ld, int rows, int columns, int channels, uint8_t* out, int out_ld) {
    auto inside = [](int v, int most) { return v < 0 ? 0 : v > most ? most : v; };
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++)
            for (int c = 0; c < channels; c += 16) {
                __m128i most = _mm_setzero_si128();
                for (int v = inside(y - 2, rows - 1); v <= inside(y + 2, rows - 1); v++)
                    for (int u = inside(x - 2, columns - 1); u <= inside(x + 2, columns - 1); u++)
                        most = _mm_max_epu8(most, _mm_loadu_si128((const __m128i*)(in + (v * (columns + 2) + u) * ld + c)));
                _mm_storeu_si128((__m128i*)(out + (y * (columns + 2) + x) * out_ld + c), most);
            }
}

void clear_border(uint8_t* map, int ld, int rows, int columns) {
    const int line = (columns + 2) * ld;
    std::memset(map, 0, line);
    for (int y = 1; y <= rows; y++) {
        std::memset(map + y * line, 0, ld);
        std::memset(map + (y + 1) * line - ld, 0, ld);
    }
    std::memset(map + (rows + 1) * line, 0, line);
}

// A 1x1 convolution to what a cell says of a box: the logit of its score, its centre's offset and the logarithms of its sides, the last
// four in strides. Rows of x0 y0 x1 y1 in pixels of the picture and a score.
void boxes(const uint8_t* in, int ld, int first, int last, int columns, int k, const float* w, const float* bias, int stride, float* rows) {
    constexpr float LARGEST = 6.f;  // of a side's logarithm, as in training
    for (int y = first; y < last; y++)
        for (int x = 0; x < columns; x++) {
            float* out = rows + (y * columns + x) * 5;
            const uint8_t* from = in + (y * (columns + 2) + x) * ld;
            __m512 acc[5] = {};
            for (int c = 0; c < k; c += 16) {
                const __m512 pixel = as_floats(from + c);
                for (int j = 0; j < 5; j++) acc[j] = _mm512_fmadd_ps(pixel, _mm512_loadu_ps(w + j * k + c), acc[j]);
            }
            float raw[5];
            for (int j = 0; j < 5; j++) raw[j] = _mm512_reduce_add_ps(acc[j]) + bias[j];
            const Vec4 powers = exponential(Vec4{-raw[0], raw[3] > LARGEST ? LARGEST : raw[3], raw[4] > LARGEST ? LARGEST : raw[4], 0});
            const float centre_x = (raw[1] + x + .5f) * stride, centre_y = (raw[2] + y + .5f) * stride;
            const float half_width = powers[1] * stride / 2, half_height = powers[2] * stride / 2;
            out[0] = centre_x - half_width, out[1] = centre_y - half_height;
            out[2] = centre_x + half_width, out[3] = centre_y + half_height;
            out[4] = 1 / (1 + powers[0]);
        }
}

}  // namespace
#endif
