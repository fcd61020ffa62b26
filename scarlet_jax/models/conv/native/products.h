// The two register-blocked micro-kernels in which nearly all the time is spent: a few rows of one matrix times 16
// columns of another, and the product of two tall matrices that is summed over their rows.
//
// They are not inlined: on their own they keep sums and pointers in registers.

#pragma once

#include "shape.h"

namespace scarlet {

// A run of consecutive floats of the input that meets as many consecutive rows of packed weights.
struct Run {
  Index offset, length;
};

// out[p * out_step + 0..15] = sum over runs and their floats of in[p * step + ...] * weights, for P pixels.
//
// kStep is `step` where it is known when this is compiled: all pixels then are one pointer with constant offsets, and
// more of them fit into the registers.
template <int P, Index kStep>
__attribute__((noinline)) void Pixels(const float* in, Index step, const std::vector<Run>& runs, const float* weights,
                                      float* out, Index out_step) {
  if (kStep) step = kStep;
  Vector sum[P][kVectors];
  for (int p = 0; p < P; p++) {
    for (int v = 0; v < kVectors; v++) sum[p][v] = Vector{};  // one by one: `= {}` goes through memory
  }
  for (const Run& run : runs) {
    const float* pixel = in + run.offset;
    for (Index c = 0; c < run.length; c++, pixel++, weights += kChannels) {
      Vector w[kVectors];
      for (int v = 0; v < kVectors; v++) w[v] = Load(weights + v * kLanes);
      for (int p = 0; p < P; p++) {
        const Vector value = Broadcast(pixel[p * step]);
        for (int v = 0; v < kVectors; v++) sum[p][v] += value * w[v];
      }
    }
  }
  for (int p = 0; p < P; p++) {
    for (int v = 0; v < kVectors; v++) Store(out + p * out_step + v * kLanes, sum[p][v]);
  }
}

// `Pixels` for any number of pixels that lie one step apart.
template <Index kStep>
void Row(const float* in, Index step, Index pixels, const std::vector<Run>& runs, const float* weights, float* out,
         Index out_step) {
  Index i = 0;
  auto some = [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    for (; i + kCount <= pixels; i += kCount)
      Pixels<kCount, kStep>(in + i * step, step, runs, weights, out + i * out_step, out_step);
  };
  if constexpr (kVectors == 1 && kStep > 0) {  // 32 registers
    some(std::integral_constant<int, 16>());
    some(std::integral_constant<int, 8>());
  }
  const Index last = pixels % 6 == 2 && pixels >= 8 ? 8 : 0;  // two times 4: 6 and 2 would take longer
  pixels -= last;
  some(std::integral_constant<int, 6>());  // 12 sums in 16 registers
  pixels += last;
  some(std::integral_constant<int, 4>());
  some(std::integral_constant<int, 2>());
  some(std::integral_constant<int, 1>());
}

using RowFunction = decltype(&Row<0>);

// The one for pixels `step` floats apart: those of our models are compiled.
inline RowFunction RowOf(Index step) {
  switch (step) {
    case 3:
      return Row<3>;
    case 16:
      return Row<16>;
    case 32:
      return Row<32>;
    case 64:
      return Row<64>;
    case 128:
      return Row<128>;
    default:
      return Row<0>;
  }
}

// Pixels of two images that meet each other: `rows` rows of `width` of them, and the floats from one to the next.
struct Meeting {
  Index rows, width, x_step, x_row, y_step;  // those of y lie in one row
};

// sums[k * step + 0..15] += sum over the pixels of x[k] * y[0..15], for K consecutive floats k of a pixel of x.
template <int K>
__attribute__((noinline)) void Outer(const float* x, const float* y, const Meeting& m, float* sums, Index step) {
  Vector sum[K][kVectors];
  for (int k = 0; k < K; k++) {
    for (int v = 0; v < kVectors; v++) sum[k][v] = Load(sums + k * step + v * kLanes);
  }
  for (Index row = 0; row < m.rows; row++, x += m.x_row) {
    const float* pixel = x;
    for (Index i = 0; i < m.width; i++, pixel += m.x_step, y += m.y_step) {
      Vector w[kVectors];
      for (int v = 0; v < kVectors; v++) w[v] = Load(y + v * kLanes);
      for (int k = 0; k < K; k++) {
        const Vector value = Broadcast(pixel[k]);
        for (int v = 0; v < kVectors; v++) sum[k][v] += value * w[v];
      }
    }
  }
  for (int k = 0; k < K; k++) {
    for (int v = 0; v < kVectors; v++) Store(sums + k * step + v * kLanes, sum[k][v]);
  }
}

// `Outer` for any number of floats of a pixel.
inline void Outers(const float* x, Index floats, const float* y, const Meeting& m, float* sums, Index step) {
  Index k = 0;
  auto some = [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    for (; k + kCount <= floats; k += kCount) Outer<kCount>(x + k, y, m, sums + k * step, step);
  };
  if constexpr (kVectors == 1) {
    some(std::integral_constant<int, 16>());
    some(std::integral_constant<int, 9>());  // three pixels in colour
  }
  some(std::integral_constant<int, 6>());
  some(std::integral_constant<int, 3>());
  some(std::integral_constant<int, 1>());
}

}  // namespace scarlet
