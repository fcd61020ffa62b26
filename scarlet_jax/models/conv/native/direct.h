// The convolution by its definition, for every kernel, stride and padding. Images are copied into a border of zeros.
// The weights are packed once per call, 16 output channels side by side.

#pragma once

#include "products.h"

namespace scarlet::direct {

// y = conv(x, w). The number of outputs is a multiple of 16.
class Forward {
 public:
  Forward(const Shape& s, const float* w)
      : s_(s), row_(RowOf(s.stride * s.inputs)), packed_(Uninitialized(s.weights())) {
    const Index rows = s.kernel_height * s.kernel_width * s.inputs, run = s.kernel_width * s.inputs;
    for (Index v = 0; v < s.outputs; v += kChannels) {
      for (Index k = 0; k < rows; k++) {
        std::memcpy(&packed_[v * rows + k * kChannels], w + k * s.outputs + v, sizeof(float) * kChannels);
      }
    }
    for (Index i = 0; i < s.kernel_height; i++) runs_.push_back({i * (s.width + 2 * s.padding) * s.inputs, run});
  }

  // Computes images first to last - 1 of the batch. Several threads may call it for different images.
  void Run(const float* x, float* y, Index first, Index last) const {
    const Index p = s_.padding, rows = s_.kernel_height * s_.kernel_width * s_.inputs;
    const Index height = s_.out_height(), width = s_.out_width();
    Bordered border(s_.height, s_.width, s_.inputs, p, p, p, p);
    for (Index n = first; n < last; n++) {
      const float* image = border.Copy(x + n * s_.image());
      float* out = y + n * s_.out_image();
      for (Index v = 0; v < s_.outputs; v += kChannels) {
        for (Index i = 0; i < height; i++) {
          row_(image + i * s_.stride * border.row(), s_.stride * s_.inputs, width, runs_, &packed_[v * rows],
               out + i * width * s_.outputs + v, s_.outputs);
        }
      }
    }
  }

 private:
  Shape s_;
  RowFunction row_;
  Floats packed_;
  std::vector<scarlet::Run> runs_;
};

// dx of y = conv(x, w), from w and dy. The number of inputs is a multiple of 16.
//
// Only those weights contribute to a pixel of dx whose distance from it is a multiple of the stride. The pixels
// therefore form stride x stride classes, and each class is a convolution of dy with its own part of the rotated
// weights.
class InputGradient {
 public:
  InputGradient(const Shape& s, const float* w) : s_(s), row_(RowOf(s.outputs)) {
    top_ = (s.kernel_height - 1 - s.padding + s.stride - 1) / s.stride;
    left_ = (s.kernel_width - 1 - s.padding + s.stride - 1) / s.stride;
    bottom_ = std::max<Index>(0, (s.height - 1 + s.padding) / s.stride - (s.out_height() - 1));
    right_ = std::max<Index>(0, (s.width - 1 + s.padding) / s.stride - (s.out_width() - 1));
    const Index row = (left_ + s.out_width() + right_) * s.outputs;
    for (Index py = 0; py < std::min(s.stride, s.height); py++) {
      for (Index px = 0; px < std::min(s.stride, s.width); px++) classes_.push_back(MakeClass(w, row, py, px));
    }
  }

  void Run(const float* dy, float* dx, Index first, Index last) const {
    const Index step = s_.stride * s_.inputs;
    Bordered border(s_.out_height(), s_.out_width(), s_.outputs, top_, left_, bottom_, right_);
    for (Index n = first; n < last; n++) {
      const float* image = border.Copy(dy + n * s_.out_image());
      float* out = dx + n * s_.image();
      for (const Class& c : classes_) {
        const Index rows = static_cast<Index>(c.runs.size()) * s_.outputs;
        const Index width = (s_.width - c.column + s_.stride - 1) / s_.stride;
        for (Index v = 0; v < s_.inputs; v += kChannels) {
          for (Index y = c.row; y < s_.height; y += s_.stride) {
            row_(image + y / s_.stride * border.row(), s_.outputs, width, c.runs, &c.packed[v * rows],
                 out + (y * s_.width + c.column) * s_.inputs + v, step);
          }
        }
      }
    }
  }

 private:
  struct Class {
    Index row, column;  // its first pixel
    std::vector<scarlet::Run> runs;
    Floats packed;
  };

  Class MakeClass(const float* w, Index row, Index py, Index px) const {
    const Shape& s = s_;
    Class c{py, px, {}, {}};
    std::vector<Index> taps;  // offsets of the weights [inputs, outputs] that contribute to this class
    for (Index i = 0; i < s.kernel_height; i++) {
      for (Index j = 0; j < s.kernel_width; j++) {
        const Index y = py + s.padding - i, x = px + s.padding - j;  // the stride times the position in dy
        if (y % s.stride || x % s.stride) continue;
        c.runs.push_back({(y / s.stride + top_) * row + (x / s.stride + left_) * s.outputs, s.outputs});
        taps.push_back((i * s.kernel_width + j) * s.inputs * s.outputs);
      }
    }
    c.packed = Uninitialized(static_cast<Index>(taps.size()) * s.inputs * s.outputs);
    float* packed = c.packed.get();
    for (Index v = 0; v < s.inputs; v += kChannels) {
      for (Index tap : taps) {
        for (Index o = 0; o < s.outputs; o++) {
          for (Index l = 0; l < kChannels; l++) *packed++ = w[tap + (v + l) * s.outputs + o];
        }
      }
    }
    return c;
  }

  Shape s_;
  RowFunction row_;
  Index top_, left_, bottom_, right_;
  std::vector<Class> classes_;
};

// dw of y = conv(x, w), from x and dy. The number of outputs is a multiple of 16.
class WeightGradient {
 public:
  explicit WeightGradient(const Shape& s) : s_(s) {
    // As many rows of an image as fit into the CPU's caches with x and dy. At least 64 pixels, to amortise loading and
    // storing the sums.
    const Index fitting = 12288 / (s.width * s.inputs + s.out_width() * s.outputs);
    rows_at_once_ = std::max((64 + s.out_width() - 1) / s.out_width(), fitting);
  }

  // Adds to dw the part of images first to last - 1.
  void Run(const float* x, const float* dy, float* dw, Index first, Index last) const {
    const Shape& s = s_;
    const Index p = s.padding, height = s.out_height(), width = s.out_width(), run = s.kernel_width * s.inputs;
    Bordered border(s.height, s.width, s.inputs, p, p, p, p);
    for (Index n = first; n < last; n++) {
      const float* image = border.Copy(x + n * s.image());
      for (Index y = 0; y < height; y += rows_at_once_) {
        const Index rows = std::min(rows_at_once_, height - y);
        const PixelPairs pairs{rows, width, s.stride * s.inputs, s.stride * border.row(), s.outputs};
        const float* gradient = dy + n * s.out_image() + y * width * s.outputs;
        for (Index i = 0; i < s.kernel_height; i++) {
          for (Index v = 0; v < s.outputs; v += kChannels) {
            Outers(image + (y * s.stride + i) * border.row(), run, gradient + v, pairs, dw + i * run * s.outputs + v,
                   s.outputs);
          }
        }
      }
    }
  }

 private:
  Shape s_;
  Index rows_at_once_;
};

}  // namespace scarlet::direct
