// The two register-blocked micro-kernels, which take nearly all of the time: `Pixels` multiplies a few rows of one
// matrix by 16 columns of another, and `Outer` multiplies two tall matrices and sums over their rows.
//
// They are not inlined, because the compiler then keeps their sums and pointers in registers.

#pragma once

#include "shape.h"

namespace scarlet {

// Consecutive floats of the input, which are multiplied by as many consecutive rows of the packed weights.
struct Run {
  Index offset, length;
};

// out[p * out_step + 0..15] = sum over runs and their floats of in[p * step + ...] * weights, for P pixels.
//
// kStep is `step` if that is known at compile time, otherwise 0. With it, the addresses of all pixels are one pointer
// and constant offsets, so that more sums fit into the registers.
template <int P, Index kStep>
__attribute__((noinline)) void Pixels(const float* in, Index step, const std::vector<Run>& runs, const float* weights,
                                      float* out, Index out_step) {
  if (kStep) step = kStep;
  Vector sum[P][kVectors];
  for (int p = 0; p < P; p++) {
    for (int v = 0; v < kVectors; v++) sum[p][v] = Vector{};  // one by one, because `= {}` would write to memory
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

// `Pixels` for any number of pixels at a distance of one step.
template <Index kStep>
void Row(const float* in, Index step, Index pixels, const std::vector<Run>& runs, const float* weights, float* out,
         Index out_step) {
  Index i = 0;
  auto some = [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    for (; i + kCount <= pixels; i += kCount)
      Pixels<kCount, kStep>(in + i * step, step, runs, weights, out + i * out_step, out_step);
  };
  if constexpr (kVectors == 1 && kStep > 0) {  // AVX-512 has 32 registers
    some(std::integral_constant<int, 16>());
    some(std::integral_constant<int, 8>());
  }
  const Index last = pixels % 6 == 2 && pixels >= 8 ? 8 : 0;  // as 4 and 4, which is faster than 6 and 2
  pixels -= last;
  some(std::integral_constant<int, 6>());  // 12 sums, of two vectors each pixel, in 16 registers
  pixels += last;
  some(std::integral_constant<int, 4>());
  some(std::integral_constant<int, 2>());
  some(std::integral_constant<int, 1>());
}

using RowFunction = decltype(&Row<0>);

// The `Row` for pixels at a distance of `step` floats. Those of the models in this package have a kStep.
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

// The pixels of x and y that are multiplied with each other: `rows` rows of `width` pixels.
struct PixelPairs {
  Index rows, width;
  Index x_step, x_row;  // floats from one pixel of x to the next, and from one row to the next
  Index y_step;         // floats from one pixel of y to the next, also across rows
};

// sums[k * step + 0..15] += sum over the pixels of x[k] * y[0..15], for K consecutive floats k of a pixel of x.
template <int K>
__attribute__((noinline)) void Outer(const float* x, const float* y, const PixelPairs& m, float* sums, Index step) {
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
inline void Outers(const float* x, Index floats, const float* y, const PixelPairs& m, float* sums, Index step) {
  Index k = 0;
  auto some = [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    for (; k + kCount <= floats; k += kCount) Outer<kCount>(x + k, y, m, sums + k * step, step);
  };
  if constexpr (kVectors == 1) {
    some(std::integral_constant<int, 16>());
    some(std::integral_constant<int, 9>());  // three pixels of three channels
  }
  some(std::integral_constant<int, 6>());
  some(std::integral_constant<int, 3>());
  some(std::integral_constant<int, 1>());
}

}  // namespace scarlet
