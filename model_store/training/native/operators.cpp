// What Lite-HRNet does between its convolutions, in one pass each, for training on a CPU.
//
// Every map is (N, C, H, W) float32 in channels-last memory: a pixel's channels lie together. Rows are shared among torch's
// threads. Gradients are operators of their own; operators.py ties the two together.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

using at::Tensor;

Tensor channels_last(const Tensor& map) { return map.contiguous(at::MemoryFormat::ChannelsLast); }

Tensor empty_map(int64_t n, int64_t c, int64_t h, int64_t w, const Tensor& like) {
  return at::empty({n, c, h, w}, like.options().memory_format(at::MemoryFormat::ChannelsLast));
}

// How many pieces of `work` floats are worth a thread.
int64_t grain(int64_t work) { return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, work)); }

int64_t pixels(const Tensor& map) { return map.size(0) * map.size(2) * map.size(3); }

// ---- Halves of the channels, and the shuffle that joins them ----

std::vector<Tensor> split(const Tensor& map) {
  const auto x = channels_last(map);
  const int64_t c = x.size(1), half = c / 2;
  auto a = empty_map(x.size(0), half, x.size(2), x.size(3), x), b = at::empty_like(a);
  const float* in = x.const_data_ptr<float>();
  float *first = a.mutable_data_ptr<float>(), *second = b.mutable_data_ptr<float>();
  at::parallel_for(0, pixels(x), grain(c), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      std::memcpy(first + p * half, in + p * c, half * sizeof(float));
      std::memcpy(second + p * half, in + p * c + half, half * sizeof(float));
    }
  });
  return {a, b};
}

Tensor join(const Tensor& first, const Tensor& second) {
  const auto a = channels_last(first), b = channels_last(second);
  const int64_t half = a.size(1), c = 2 * half;
  auto x = empty_map(a.size(0), c, a.size(2), a.size(3), a);
  const float *pa = a.const_data_ptr<float>(), *pb = b.const_data_ptr<float>();
  float* out = x.mutable_data_ptr<float>();
  at::parallel_for(0, pixels(a), grain(c), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      std::memcpy(out + p * c, pa + p * half, half * sizeof(float));
      std::memcpy(out + p * c + half, pb + p * half, half * sizeof(float));
    }
  });
  return x;
}

// Channels a0 b0 a1 b1 …: as both maps are channels-last, one run over all values.
Tensor shuffle(const Tensor& first, const Tensor& second) {
  const auto a = channels_last(first), b = channels_last(second);
  const int64_t half = a.size(1);
  auto x = empty_map(a.size(0), 2 * half, a.size(2), a.size(3), a);
  const float *pa = a.const_data_ptr<float>(), *pb = b.const_data_ptr<float>();
  float* out = x.mutable_data_ptr<float>();
  at::parallel_for(0, pixels(a) * half, grain(2), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      out[2 * i] = pa[i];
      out[2 * i + 1] = pb[i];
    }
  });
  return x;
}

std::vector<Tensor> unshuffle(const Tensor& map) {
  const auto x = channels_last(map);
  const int64_t half = x.size(1) / 2;
  auto a = empty_map(x.size(0), half, x.size(2), x.size(3), x), b = at::empty_like(a);
  const float* in = x.const_data_ptr<float>();
  float *pa = a.mutable_data_ptr<float>(), *pb = b.mutable_data_ptr<float>();
  at::parallel_for(0, pixels(x) * half, grain(2), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      pa[i] = in[2 * i];
      pb[i] = in[2 * i + 1];
    }
  });
  return {a, b};
}

// ---- A map times weights that it repeats to its size ----

Tensor weigh(const Tensor& map, const Tensor& weights) {
  const auto x = channels_last(map), a = channels_last(weights);
  const int64_t c = x.size(1), h = x.size(2), w = x.size(3), ah = a.size(2), aw = a.size(3), sy = h / ah, sx = w / aw;
  auto y = at::empty_like(x);
  const float *px = x.const_data_ptr<float>(), *pa = a.const_data_ptr<float>();
  float* out = y.mutable_data_ptr<float>();
  at::parallel_for(0, x.size(0) * h, grain(w * c), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* weight_row = pa + (row / h * ah + row % h / sy) * aw * c;
      for (int64_t column = 0; column < w; ++column) {
        const float* __restrict weight = weight_row + column / sx * c;
        const float* __restrict in = px + (row * w + column) * c;
        float* __restrict result = out + (row * w + column) * c;
        for (int64_t k = 0; k < c; ++k) result[k] = in[k] * weight[k];
      }
    }
  });
  return y;
}

std::vector<Tensor> weigh_gradients(const Tensor& gradient, const Tensor& map, const Tensor& weights) {
  const auto g = channels_last(gradient), x = channels_last(map), a = channels_last(weights);
  const int64_t c = x.size(1), h = x.size(2), w = x.size(3), ah = a.size(2), aw = a.size(3), sy = h / ah, sx = w / aw;
  auto gx = at::empty_like(x), ga = at::zeros_like(a);
  const float *pg = g.const_data_ptr<float>(), *px = x.const_data_ptr<float>(), *pa = a.const_data_ptr<float>();
  float *pgx = gx.mutable_data_ptr<float>(), *pga = ga.mutable_data_ptr<float>();
  // A row of weights belongs to one thread, with all rows of the map that repeat it.
  at::parallel_for(0, x.size(0) * ah, grain(sy * w * c), [&](int64_t begin, int64_t end) {
    for (int64_t weight_row = begin; weight_row < end; ++weight_row)
      for (int64_t row = weight_row * sy; row < (weight_row + 1) * sy; ++row)
        for (int64_t column = 0; column < w; ++column) {
          const int64_t at = (row * w + column) * c, weight_at = (weight_row * aw + column / sx) * c;
          const float *__restrict dy = pg + at, *__restrict in = px + at, *__restrict weight = pa + weight_at;
          float *__restrict dx = pgx + at, *__restrict da = pga + weight_at;
          for (int64_t k = 0; k < c; ++k) {
            dx[k] = dy[k] * weight[k];
            da[k] += dy[k] * in[k];
          }
        }
  });
  return {gx, ga};
}

// ---- A sum of maps, the coarser ones repeated to the finest size; the first counts twice ----

Tensor add_repeated(at::TensorList maps, bool relu) {
  std::vector<Tensor> terms;
  for (const auto& map : maps) terms.push_back(channels_last(map));
  int64_t h = 0, w = 0;
  for (const auto& term : terms) h = std::max(h, term.size(2)), w = std::max(w, term.size(3));
  const int64_t c = terms[0].size(1);
  auto total = empty_map(terms[0].size(0), c, h, w, terms[0]);
  float* out = total.mutable_data_ptr<float>();
  at::parallel_for(0, total.size(0) * h, grain(w * c), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t column = 0; column < w; ++column) {
        float* __restrict sum = out + (row * w + column) * c;
        for (size_t term = 0; term < terms.size(); ++term) {
          const int64_t th = terms[term].size(2), tw = terms[term].size(3), y = row % h / (h / th), x = column / (w / tw);
          const float* __restrict in = terms[term].const_data_ptr<float>() + ((row / h * th + y) * tw + x) * c;
          if (term == 0)
            for (int64_t k = 0; k < c; ++k) sum[k] = 2 * in[k];
          else
            for (int64_t k = 0; k < c; ++k) sum[k] += in[k];
        }
        if (relu)
          for (int64_t k = 0; k < c; ++k) sum[k] = sum[k] > 0 ? sum[k] : 0;
      }
  });
  return total;
}

// `factors`: of each term, by how much it was repeated along both axes.
std::vector<Tensor> add_repeated_gradients(const Tensor& gradient, const Tensor& total, at::IntArrayRef factors, bool relu) {
  const auto g = channels_last(relu ? at::threshold_backward(gradient, total, 0) : gradient);
  const int64_t n = g.size(0), c = g.size(1), h = g.size(2), w = g.size(3);
  std::vector<Tensor> results;
  for (size_t term = 0; term < factors.size(); ++term) {
    const int64_t factor = factors[term];
    if (factor == 1) {
      results.push_back(term == 0 ? g * 2 : g);
      continue;
    }
    auto result = empty_map(n, c, h / factor, w / factor, g).zero_();
    const float scale = term == 0 ? 2 : 1, *in = g.const_data_ptr<float>();
    float* out = result.mutable_data_ptr<float>();
    at::parallel_for(0, n * h / factor, grain(factor * w * c), [&](int64_t begin, int64_t end) {
      for (int64_t coarse = begin; coarse < end; ++coarse)
        for (int64_t row = coarse * factor; row < (coarse + 1) * factor; ++row)
          for (int64_t column = 0; column < w; ++column) {
            float* __restrict sum = out + (coarse * (w / factor) + column / factor) * c;
            const float* __restrict dy = in + (row * w + column) * c;
            for (int64_t k = 0; k < c; ++k) sum[k] += scale * dy[k];
          }
    });
    results.push_back(result);
  }
  return results;
}

// ---- The gradient of a depthwise 3x3 convolution of stride 2 with respect to its map ----

Tensor depthwise2_gradient(const Tensor& gradient, const Tensor& kernel, int64_t h, int64_t w) {
  const auto g = channels_last(gradient), taps = kernel.reshape({kernel.size(0), 9}).t().contiguous();
  const int64_t c = g.size(1), gh = g.size(2), gw = g.size(3);
  auto gx = empty_map(g.size(0), c, h, w, g);
  const float *pg = g.const_data_ptr<float>(), *pt = taps.const_data_ptr<float>();
  float* out = gx.mutable_data_ptr<float>();
  at::parallel_for(0, g.size(0) * h, grain(w * c * 3), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t column = 0; column < w; ++column) {
        float* __restrict dx = out + (row * w + column) * c;
        std::fill(dx, dx + c, 0.0f);
        for (int64_t tap = 0; tap < 9; ++tap) {
          const int64_t y = row % h + 1 - tap / 3, x = column + 1 - tap % 3;
          if (y < 0 || x < 0 || y % 2 || x % 2 || y / 2 >= gh || x / 2 >= gw) continue;
          const float* __restrict dy = pg + ((row / h * gh + y / 2) * gw + x / 2) * c;
          const float* __restrict weight = pt + tap * c;
          for (int64_t k = 0; k < c; ++k) dx[k] += dy[k] * weight[k];
        }
      }
  });
  return gx;
}

}  // namespace

TORCH_LIBRARY(posewire_training, library) {
  library.def("split(Tensor map) -> Tensor[]", split);
  library.def("join(Tensor first, Tensor second) -> Tensor", join);
  library.def("shuffle(Tensor first, Tensor second) -> Tensor", shuffle);
  library.def("unshuffle(Tensor map) -> Tensor[]", unshuffle);
  library.def("weigh(Tensor map, Tensor weights) -> Tensor", weigh);
  library.def("weigh_gradients(Tensor gradient, Tensor map, Tensor weights) -> Tensor[]", weigh_gradients);
  library.def("add_repeated(Tensor[] maps, bool relu) -> Tensor", add_repeated);
  library.def("add_repeated_gradients(Tensor gradient, Tensor total, int[] factors, bool relu) -> Tensor[]", add_repeated_gradients);
  library.def("depthwise2_gradient(Tensor gradient, Tensor kernel, int h, int w) -> Tensor", depthwise2_gradient);
}
