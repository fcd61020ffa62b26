// Direct convolution on the CPU for float32 images in NHWC and weights in HWIO: forward and both gradients.
//
// One register-blocked micro-kernel does nearly all the work: 6 output pixels x 16 output channels are held in 12
// vectors of 8 floats while the taps of the window stream by. Every image is first copied into a buffer with a border
// of zeros, so that no tap ever needs a test; the weights are packed once per call, 16 output channels side by side.
//
// Nothing here depends on XLA: `ffi.cc` binds it, `check.cc` compares it with plain loops.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace scarlet {

using Index = std::int64_t;

// 8 floats; the compiler maps them to one AVX register, two NEON registers, or whatever there is.
typedef float Vector __attribute__((vector_size(32), aligned(4)));
constexpr Index kLanes = 8;
constexpr Index kChannels = 2 * kLanes;  // output channels of the micro-kernel: all sizes that are blocked divide by it

inline Vector Load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
inline void Store(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }
inline Vector Broadcast(float s) { return Vector{s, s, s, s, s, s, s, s}; }

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

// --------------------------------------------------------------------------------------------------- the micro-kernel

// A run of consecutive floats in the padded image that meets as many consecutive rows of packed weights.
struct Run {
  Index offset, length;
};

// out[p][0..15] (+)= sum over runs and their floats of in[p + ...] * weights, for P pixels.
template <int P>
inline void Pixels(const float* in, const Index* in_at, const Run* runs, Index count, const float* weights, float* out,
                   const Index* out_at, bool accumulate) {
  Vector sum[P][2];
  for (int p = 0; p < P; p++) {
    sum[p][0] = accumulate ? Load(out + out_at[p]) : Vector{};
    sum[p][1] = accumulate ? Load(out + out_at[p] + kLanes) : Vector{};
  }
  for (Index r = 0; r < count; r++) {
    const float* pixel[P];
    for (int p = 0; p < P; p++) pixel[p] = in + in_at[p] + runs[r].offset;
    for (Index c = 0; c < runs[r].length; c++, weights += kChannels) {
      const Vector low = Load(weights), high = Load(weights + kLanes);
      for (int p = 0; p < P; p++) {
        const Vector value = Broadcast(pixel[p][c]);
        sum[p][0] += value * low;
        sum[p][1] += value * high;
      }
    }
  }
  for (int p = 0; p < P; p++) {
    Store(out + out_at[p], sum[p][0]);
    Store(out + out_at[p] + kLanes, sum[p][1]);
  }
}

// Where the pixels of one image lie, in the padded input and in the output.
struct Grid {
  std::vector<Index> in, out;
};

inline void AllPixels(const float* in, const Grid& grid, const Run* runs, Index count, const float* weights, float* out,
                      bool accumulate) {
  const Index pixels = static_cast<Index>(grid.in.size());
  Index i = 0;
  for (; i + 6 <= pixels; i += 6) Pixels<6>(in, &grid.in[i], runs, count, weights, out, &grid.out[i], accumulate);
  for (; i + 4 <= pixels; i += 4) Pixels<4>(in, &grid.in[i], runs, count, weights, out, &grid.out[i], accumulate);
  for (; i < pixels; i++) Pixels<1>(in, &grid.in[i], runs, count, weights, out, &grid.out[i], accumulate);
}

// Rows of packed weights (64 bytes each) that stay in a 32 KB first-level cache beside the pixels.
constexpr Index kRowsAtOnce = 320;
constexpr Index kRowsPerPart = 200;

// All runs at once or, where their weights would not stay in the cache, in parts that accumulate.
inline void AllRuns(const float* in, const Grid& grid, const std::vector<Run>& runs, const float* weights, float* out) {
  Index rows = 0;
  const Index count = static_cast<Index>(runs.size());
  for (const Run& run : runs) rows += run.length;
  if (rows <= kRowsAtOnce) return AllPixels(in, grid, runs.data(), count, weights, out, false);
  for (Index first = 0; first < count;) {
    Index last = first, part = 0;
    while (last < count && (last == first || part + runs[last].length <= kRowsPerPart)) part += runs[last++].length;
    AllPixels(in, grid, &runs[first], last - first, weights, out, first > 0);
    weights += kChannels * part;
    first = last;
  }
}

// ------------------------------------------------------------------------------------------------------------ borders

// An image inside a border of zeros. Reused for image after image: the border is written once.
class Bordered {
 public:
  Bordered(Index height, Index width, Index channels, Index top, Index left, Index bottom, Index right)
      : height_(height),
        width_(width),
        channels_(channels),
        top_(top),
        left_(left),
        row_((left + width + right) * channels),
        data_((top + height + bottom) * row_, 0.0f) {}

  Index row() const { return row_; }

  const float* Copy(const float* image) {
    for (Index y = 0; y < height_; y++) {
      std::memcpy(&data_[(top_ + y) * row_ + left_ * channels_], image + y * width_ * channels_,
                  sizeof(float) * width_ * channels_);
    }
    return data_.data();
  }

 private:
  Index height_, width_, channels_, top_, left_, row_;
  std::vector<float> data_;
};

// ------------------------------------------------------------------------------------------------------------ forward

// y = conv(x, w). The outputs divide by 16.
class Forward {
 public:
  static const char* Refusal(const Shape& s) {
    return s.outputs % kChannels ? "output channels do not divide by 16" : scarlet::Refusal(s);
  }

  Forward(const Shape& s, const float* w) : s_(s), packed_(s.weights()) {
    const Index rows = s.kernel_height * s.kernel_width * s.inputs, run = s.kernel_width * s.inputs;
    for (Index v = 0; v < s.outputs; v += kChannels) {
      for (Index k = 0; k < rows; k++) {
        std::memcpy(&packed_[v * rows + k * kChannels], w + k * s.outputs + v, sizeof(float) * kChannels);
      }
    }
    const Index row = (s.width + 2 * s.padding) * s.inputs;
    for (Index i = 0; i < s.kernel_height; i++) runs_.push_back({i * row, run});
    for (Index y = 0; y < s.out_height(); y++) {
      for (Index x = 0; x < s.out_width(); x++) {
        grid_.in.push_back(y * s.stride * row + x * s.stride * s.inputs);
        grid_.out.push_back((y * s.out_width() + x) * s.outputs);
      }
    }
  }

  // Images first to last of the batch. Safe to call from several threads for different images.
  void Run(const float* x, float* y, Index first, Index last) const {
    const Index p = s_.padding, rows = s_.kernel_height * s_.kernel_width * s_.inputs;
    Bordered border(s_.height, s_.width, s_.inputs, p, p, p, p);
    for (Index n = first; n < last; n++) {
      const float* image = border.Copy(x + n * s_.image());
      for (Index v = 0; v < s_.outputs; v += kChannels) {
        AllRuns(image, grid_, runs_, &packed_[v * rows], y + n * s_.out_image() + v);
      }
    }
  }

 private:
  Shape s_;
  std::vector<float> packed_;
  std::vector<scarlet::Run> runs_;
  Grid grid_;
};

// ----------------------------------------------------------------------------------------------------- input gradient

// dx of y = conv(x, w), from w and dy. The inputs divide by 16.
//
// A pixel of dx meets only those weights whose distance to it is a multiple of the stride: the pixels fall into
// stride x stride classes, each a convolution of dy with its own part of the turned weights.
class InputGradient {
 public:
  static const char* Refusal(const Shape& s) {
    return s.inputs % kChannels ? "input channels do not divide by 16" : scarlet::Refusal(s);
  }

  InputGradient(const Shape& s, const float* w) : s_(s) {
    top_ = (s.kernel_height - 1 - s.padding + s.stride - 1) / s.stride;
    left_ = (s.kernel_width - 1 - s.padding + s.stride - 1) / s.stride;
    bottom_ = std::max<Index>(0, (s.height - 1 + s.padding) / s.stride - (s.out_height() - 1));
    right_ = std::max<Index>(0, (s.width - 1 + s.padding) / s.stride - (s.out_width() - 1));
    const Index row = (left_ + s.out_width() + right_) * s.outputs;
    for (Index py = 0; py < s.stride; py++) {
      for (Index px = 0; px < s.stride; px++) classes_.push_back(MakeClass(w, row, py, px));
    }
  }

  void Run(const float* dy, float* dx, Index first, Index last) const {
    Bordered border(s_.out_height(), s_.out_width(), s_.outputs, top_, left_, bottom_, right_);
    for (Index n = first; n < last; n++) {
      const float* image = border.Copy(dy + n * s_.out_image());
      for (const Class& c : classes_) {
        const Index rows = static_cast<Index>(c.runs.size()) * s_.outputs;
        for (Index v = 0; v < s_.inputs; v += kChannels) {
          AllRuns(image, c.grid, c.runs, c.packed.data() + v * rows, dx + n * s_.image() + v);
        }
      }
    }
  }

 private:
  struct Class {
    std::vector<scarlet::Run> runs;
    std::vector<float> packed;
    Grid grid;
  };

  Class MakeClass(const float* w, Index row, Index py, Index px) const {
    const Shape& s = s_;
    Class c;
    std::vector<Index> taps;  // offsets of the weights [inputs, outputs] that this class meets
    for (Index i = 0; i < s.kernel_height; i++) {
      for (Index j = 0; j < s.kernel_width; j++) {
        const Index y = py + s.padding - i, x = px + s.padding - j;  // times stride: where dy lies
        if (y % s.stride || x % s.stride) continue;
        c.runs.push_back({(y / s.stride + top_) * row + (x / s.stride + left_) * s.outputs, s.outputs});
        taps.push_back((i * s.kernel_width + j) * s.inputs * s.outputs);
      }
    }
    for (Index v = 0; v < s.inputs; v += kChannels) {
      for (Index tap : taps) {
        for (Index o = 0; o < s.outputs; o++) {
          for (Index l = 0; l < kChannels; l++) c.packed.push_back(w[tap + (v + l) * s.outputs + o]);
        }
      }
    }
    for (Index y = py; y < s.height; y += s.stride) {
      for (Index x = px; x < s.width; x += s.stride) {
        c.grid.in.push_back((y / s.stride) * row + (x / s.stride) * s.outputs);
        c.grid.out.push_back((y * s.width + x) * s.inputs);
      }
    }
    return c;
  }

  Shape s_;
  Index top_, left_, bottom_, right_;
  std::vector<Class> classes_;
};

// ---------------------------------------------------------------------------------------------------- weight gradient

// dw of y = conv(x, w), from x and dy. The outputs divide by 16.
class WeightGradient {
 public:
  static const char* Refusal(const Shape& s) { return Forward::Refusal(s); }

  explicit WeightGradient(const Shape& s) : s_(s) {
    // Rows of an image whose pixels of x and dy stay in the first-level cache together.
    rows_at_once_ = std::max<Index>(1, 6144 / (s.width * s.inputs + s.out_width() * s.outputs));
  }

  // dw += the part of images first to last.
  void Run(const float* x, const float* dy, float* dw, Index first, Index last) const {
    const Shape& s = s_;
    const Index p = s.padding, out_height = s.out_height(), out_width = s.out_width();
    const Index run = s.kernel_width * s.inputs, step = s.stride * s.inputs;
    Bordered border(s.height, s.width, s.inputs, p, p, p, p);
    for (Index n = first; n < last; n++) {
      const float* image = border.Copy(x + n * s.image());
      for (Index y = 0; y < out_height; y += rows_at_once_) {
        const Index rows = std::min(rows_at_once_, out_height - y);
        const float* gradient = dy + n * s.out_image() + y * out_width * s.outputs;
        for (Index i = 0; i < s.kernel_height; i++) {
          const float* pixels = image + (y * s.stride + i) * border.row();
          for (Index v = 0; v < s.outputs; v += kChannels) {
            float* out = dw + i * run * s.outputs + v;
            Index k = 0;
            const Index down = s.stride * border.row();
            for (; k + 6 <= run; k += 6) Rows<6>(pixels + k, step, down, gradient + v, rows, out + k * s.outputs);
            for (; k + 3 <= run; k += 3) Rows<3>(pixels + k, step, down, gradient + v, rows, out + k * s.outputs);
            for (; k < run; k++) Rows<1>(pixels + k, step, down, gradient + v, rows, out + k * s.outputs);
          }
        }
      }
    }
  }

 private:
  // P rows of dw x 16 outputs, over the pixels of a stripe.
  template <int P>
  void Rows(const float* x, Index step, Index down, const float* dy, Index rows, float* dw) const {
    const Index outputs = s_.outputs, out_width = s_.out_width();
    Vector sum[P][2];
    for (int p = 0; p < P; p++) sum[p][0] = Load(dw + p * outputs), sum[p][1] = Load(dw + p * outputs + kLanes);
    for (Index y = 0; y < rows; y++, x += down) {
      const float* pixel = x;
      for (Index i = 0; i < out_width; i++, pixel += step, dy += outputs) {
        const Vector low = Load(dy), high = Load(dy + kLanes);
        for (int p = 0; p < P; p++) {
          const Vector value = Broadcast(pixel[p]);
          sum[p][0] += value * low;
          sum[p][1] += value * high;
        }
      }
    }
    for (int p = 0; p < P; p++) Store(dw + p * outputs, sum[p][0]), Store(dw + p * outputs + kLanes, sum[p][1]);
  }

  Shape s_;
  Index rows_at_once_;
};

}  // namespace scarlet
