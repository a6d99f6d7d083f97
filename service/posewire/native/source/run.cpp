// Lite-HRNet's layers on one core, in float32: a list of operations, run over one block of memory.
//
// Feature maps are (height, width, channels), so that a block can work on a part of the channels where they lie: nothing is
// split, concatenated or shuffled. Python decides where everything lies and in which order. Compiled once for each level of
// processor; LEVEL is the name that the function ends in.

#include "entry.h"
#include "shrink.h"
#include "sums.h"
#include "weighting.h"

namespace {

enum Kind : int32_t { ENTRY, POINTWISE, DEPTHWISE, WEIGH, POOL, GATE, GATHER, ENLARGE, PLANES, REPEAT, FILL };

// An operation: its kind and numbers; places are in floats, -1 for none, in the memory or in the constants as each says.
struct Operation {
    int32_t kind, a[19];
};

}  // namespace

#define JOINED(a, b) a##b
#define NAMED(a, b) JOINED(a, b)

// Args: `constants` and `memory` aligned to 64 bytes; `image` (height, width, 3), RGB; `heatmaps` (keypoints, height / 4, width / 4).
extern "C" __attribute__((visibility("default"))) void NAMED(posewire_run_, LEVEL)(const Operation* operations, int32_t count, const float* constants, float* memory,
                                            const uint8_t* image, float* heatmaps) {
    auto mem = [&](int32_t at) { return at < 0 ? nullptr : memory + at; };
    auto con = [&](int32_t at) { return at < 0 ? nullptr : constants + at; };
    for (const Operation* op = operations; op < operations + count; op++) {
        const int32_t* a = op->a;
        switch (op->kind) {
            case ENTRY: entry(image, a[0], a[1], con(a[2]), con(a[3]), con(a[4]), mem(a[5]), mem(a[6])); break;
            case POINTWISE:
                pointwise(mem(a[0]), a[1], con(a[2]), a[3], a[4], a[5], mem(a[6]), a[7], con(a[8]), a[9], mem(a[10]), mem(a[11]));
                break;
            case DEPTHWISE:
                depthwise(mem(a[0]), a[1], mem(a[2]), a[3], a[4], a[5], a[6], a[7], con(a[8]), con(a[9]), mem(a[10]), a[11], mem(a[12]));
                break;
            case WEIGH:
                weigh_and_filter(mem(a[0]), a[1], a[2], a[3], a[4], mem(a[5]), a[6], a[7], mem(a[8]), con(a[9]), con(a[10]), mem(a[11]), mem(a[12]));
                break;
            case POOL: pool(mem(a[0]), a[1], a[2], a[3], a[4], a[5], mem(a[6]), mem(a[7]), a[8]); break;
            case GATE: {
                // mean -> hidden -> weights of `a[3]` channels; computed in whole vectors, only the channels' own are kept.
                float *hidden = mem(a[7]), *full = hidden + a[2];
                pointwise(mem(a[0]), 0, con(a[4]), 1, a[1], a[2], hidden, 0, con(a[5]), RELU, nullptr, nullptr);
                pointwise(hidden, 0, con(a[6]), 1, a[2], (a[3] + 7) / 8 * 8, full, 0, con(a[8]), SIGMOID, nullptr, nullptr);
                std::memcpy(mem(a[9]), full, a[3] * sizeof(float));
                break;
            }
            case GATHER:
                gather(mem(a[0]), reinterpret_cast<const int32_t*>(con(a[1])), mem(a[2]), mem(a[3]), a[4], a[5], a[6], mem(a[7]), mem(a[8]), a[9], mem(a[10]));
                break;
            case ENLARGE: enlarge(mem(a[0]), mem(a[1]), a[2], a[3], a[4], mem(a[5])); break;
            case REPEAT: repeat(mem(a[0]), a[1], a[2], a[3], mem(a[4])); break;
            case FILL:
                for (int i = 0; i < a[1]; i++) mem(a[0])[i] = 1.f;
                break;
            case PLANES: planes(mem(a[0]), a[1], a[2], a[3], heatmaps); break;
        }
    }
}

// An image (height, width, 3) scaled down to (rows, columns, 3), as shrink.h says; strides are in bytes.
extern "C" __attribute__((visibility("default"))) void NAMED(posewire_shrink_, LEVEL)(const uint8_t* from, int64_t from_stride, int32_t height, int32_t width,
                                               uint8_t* to, int64_t to_stride, int32_t rows, int32_t columns, float* scratch) {
    shrink(from, from_stride, height, width, to, to_stride, rows, columns, scratch);
}
