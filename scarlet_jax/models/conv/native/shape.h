// Used by all kernels: vectors of floats, the sizes of a convolution, aligned memory, and images with a border.

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

// A vector is one register with AVX-512 or AVX, and two registers with NEON; the compiler chooses the instructions.
#if defined(__AVX512F__)
constexpr Index kLanes = 16;
#else
constexpr Index kLanes = 8;
#endif
typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef float VectorAnywhere __attribute__((vector_size(4 * kLanes), aligned(4)));  // for unaligned loads and stores

// Channels that are computed side by side. It does not depend on the registers, and blocked sizes are multiples of it.
constexpr Index kChannels = 16;
constexpr int kVectors = kChannels / kLanes;

inline Vector Load(const float* p) { return *reinterpret_cast<const VectorAnywhere*>(p); }
inline void Store(float* p, Vector v) { *reinterpret_cast<VectorAnywhere*>(p) = v; }
inline Vector Broadcast(float s) { return s - Vector{}; }  // minus zero, because plus zero would change -0

// One convolution of stacked clients. Output sizes follow from the others.
struct Shape {
  Index batch, height, width, inputs, outputs, kernel_height, kernel_width, stride, padding;

  Index out_height() const { return (height + 2 * padding - kernel_height) / stride + 1; }
  Index out_width() const { return (width + 2 * padding - kernel_width) / stride + 1; }
  Index image() const { return height * width * inputs; }
  Index out_image() const { return out_height() * out_width() * outputs; }
  Index weights() const { return kernel_height * kernel_width * inputs * outputs; }
};

// Why a shape is not supported, or null. Callers must check this before they use a kernel.
inline const char* Refusal(const Shape& s) {
  if (s.batch < 0 || s.height < 1 || s.width < 1 || s.inputs < 1 || s.outputs < 1) return "a size is below 1";
  if (s.kernel_height < 1 || s.kernel_width < 1 || s.stride < 1) return "kernel or stride is below 1";
  if (s.padding < 0 || s.padding >= std::min(s.kernel_height, s.kernel_width)) return "padding is not below the kernel";
  if (s.height + 2 * s.padding < s.kernel_height || s.width + 2 * s.padding < s.kernel_width)
    return "image below kernel";
  return nullptr;
}

// Floats that begin at a line of the CPU's cache, so that no vector crosses from one line into the next.
struct Release {
  void operator()(float* floats) const { ::operator delete[](floats, std::align_val_t(64)); }
};
using Floats = std::unique_ptr<float[], Release>;

// Memory that must be written before it is read.
inline Floats Uninitialized(Index floats) {
  return Floats(static_cast<float*>(::operator new[](sizeof(float) * floats, std::align_val_t(64))));
}

inline Floats Zeros(Index floats) {
  Floats zeros = Uninitialized(floats);
  std::fill_n(zeros.get(), floats, 0.0f);
  return zeros;
}

// An image inside a border of zeros, so that kernels need no bounds checks. It is reused for one image after another;
// the border is written once.
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
