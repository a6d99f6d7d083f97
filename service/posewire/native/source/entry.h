// From the image, and to the heatmaps.
#pragma once

#include "vectors.h"

namespace {

void entry_row(const uint8_t* in, int columns, const float* border, float* line) {
    for (int c = 0; c < 3; c++) line[c] = border[c];
    for (int i = 0; i < 3 * columns; i++) line[3 + i] = float(in[i]);
}

template <int PX>
void entry_tile(const float* const* line, const float* w, const float* bias, float* out) {
    constexpr int NV = 32 / WIDEST;
    Widest acc[PX][NV];
    for (int v = 0; v < NV; v++)
        for (int p = 0; p < PX; p++) acc[p][v] = load<Widest>(bias + WIDEST * v);
    for (int r = 0; r < 3; r++)
        for (int t = 0; t < 9; t++, w += 32) {
            Widest row[NV];
            for (int v = 0; v < NV; v++) {
                row[v] = load<Widest>(w + WIDEST * v);
                IN_REGISTER(row[v]);
            }
            for (int p = 0; p < PX; p++) {
                Widest x = all<Widest>(line[r][p * 6 + t]);
                IN_REGISTER(x);
                for (int v = 0; v < NV; v++) acc[p][v] += row[v] * x;
            }
        }
    for (int p = 0; p < PX; p++)
        for (int v = 0; v < NV; v++) store(out + p * 32 + WIDEST * v, positive(acc[p][v]));
}

void entry(const uint8_t* image, int rows, int columns, const float* border, const float* w, const float* bias, float* out, float* lines) {
    constexpr int PX = WIDEST == 16 ? 8 : 2;
    int size = 3 * (columns + 2);
    float* line[3] = {lines, lines + size, lines + 2 * size};
    for (int i = 0; i < size; i++) line[0][i] = border[i % 3];
    for (int y = 0; y < rows; y += 2) {
        if (y) {
            float* last = line[2];
            line[2] = line[0], line[0] = last;
        }
        entry_row(image + y * columns * 3, columns, border, line[1]);
        entry_row(image + (y + 1) * columns * 3, columns, border, line[2]);
        for (int x = 0; x < columns / 2; x += PX, out += 32 * PX) {
            const float* at[3] = {line[0] + 6 * x, line[1] + 6 * x, line[2] + 6 * x};
            entry_tile<PX>(at, w, bias, out);
        }
    }
}

// (pixels, ld) to (channels, pixels).
void planes(const float* in, int ld, int pixels, int channels, float* out) {
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < pixels; i++) out[c * pixels + i] = in[i * ld + c];
}

}  // namespace
