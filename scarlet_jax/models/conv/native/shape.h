// What all kernels share: vectors of floats, and the sizes of a convolution.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace scarlet {

using Index = std::int64_t;

// One vector register of floats where there is AVX-512 or AVX, two of NEON; the compiler maps it to whatever there is.
#if defined(__AVX512F__)
constexpr Index kLanes = 16;
#else
constexpr Index kLanes = 8;
#endif
typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef float VectorAnywhere __attribute__((vector_size(4 * kLanes), aligned(4)));  // only to read and write through

// Channels that are computed side by side: sizes that are blocked divide by it, whatever the registers.
constexpr Index kChannels = 16;
constexpr int kVectors = kChannels / kLanes;

inline Vector Load(const float* p) { return *reinterpret_cast<const VectorAnywhere*>(p); }
inline void Store(float* p, Vector v) { *reinterpret_cast<VectorAnywhere*>(p) = v; }
inline Vector Broadcast(float s) { return s - Vector{}; }  // less zero, as plus zero would change -0

// One convolution of stacked clients. Output sizes follow from the others.
struct Shape {
  Index batch, height, width, inputs, outputs, kernel_height, kernel_width, stride, padding;

  Index out_height() const { return (height + 2 * padding - kernel_height) / stride + 1; }
  Index out_width() const { return (width + 2 * padding - kernel_width) / stride + 1; }
  Index image() const { return height * width * inputs; }
  Index out_image() const { return out_height() * out_width() * outputs; }
  Index weights() const { return kernel_height * kernel_width * inputs * outputs; }
};

// Why a shape is not covered, or null. The caller must have asked before it calls anything below.
inline const char* Refusal(const Shape& s) {
  if (s.batch < 0 || s.height < 1 || s.width < 1 || s.inputs < 1 || s.outputs < 1) return "a size is below 1";
  if (s.kernel_height < 1 || s.kernel_width < 1 || s.stride < 1) return "kernel or stride is below 1";
  if (s.padding < 0 || s.padding >= std::min(s.kernel_height, s.kernel_width)) return "padding is not below the kernel";
  if (s.height + 2 * s.padding < s.kernel_height || s.width + 2 * s.padding < s.kernel_width)
    return "image below kernel";
  return nullptr;
}

// Floats that begin where a line of the cache does, so that no vector lies in two.
struct Release {
  void operator()(float* floats) const { ::operator delete[](floats, std::align_val_t(64)); }
};
using Floats = std::unique_ptr<float[], Release>;

// Room that is written before it is read.
inline Floats Room(Index floats) {
  return Floats(static_cast<float*>(::operator new[](sizeof(float) * floats, std::align_val_t(64))));
}

inline Floats Zeros(Index floats) {
  Floats zeros = Room(floats);
  std::fill_n(zeros.get(), floats, 0.0f);
  return zeros;
}

// An image inside a border of zeros, so that no tap ever needs a test. Reused for image after image: the border is
// written once.
class Bordered {
 public:
  Bordered(Index height, Index width, Index channels, Index top, Index left, Index bottom, Index right)
      : height_(height),
        width_(width),
        channels_(channels),
        top_(top),
        left_(left),
        row_((left + width + right) * channels),
        data_(Zeros((top + height + bottom) * row_)) {}

  Index row() const { return row_; }

  const float* Copy(const float* image) {
    for (Index y = 0; y < height_; y++) {
      std::memcpy(&data_[(top_ + y) * row_ + left_ * channels_], image + y * width_ * channels_,
                  sizeof(float) * width_ * channels_);
    }
    return data_.get();
  }

 private:
  Index height_, width_, channels_, top_, left_, row_;
  Floats data_;
};

}  // namespace scarlet
