// Convolution on the CPU for float32 images in NHWC and weights in HWIO: the forward pass and both gradients, each by
// the method that is faster for its shape.
//
// This code does not depend on XLA. `ffi.cc` binds it to XLA, and `check.cc` compares it with plain loops.

#pragma once

#include <variant>

#include "direct.h"
#include "winograd.h"

namespace scarlet {

// y = conv(x, w).
class Forward {
 public:
  static const char* Refusal(const Shape& s) {
    return s.outputs % kChannels ? "the number of output channels is not a multiple of 16" : scarlet::Refusal(s);
  }

  Forward(const Shape& s, const float* w)
      : kernel_(winograd::Pays(s) ? Kernel(winograd::Convolution(s, w, false)) : Kernel(direct::Forward(s, w))) {}

  // Computes images first to last - 1 of the batch. Several threads may call it for different images.
  void Run(const float* x, float* y, Index first, Index last) const {
    std::visit([&](const auto& kernel) { kernel.Run(x, y, first, last); }, kernel_);
  }

 private:
  using Kernel = std::variant<direct::Forward, winograd::Convolution>;
  Kernel kernel_;
};

// dx of y = conv(x, w), from w and dy.
class InputGradient {
 public:
  static const char* Refusal(const Shape& s) {
    return s.inputs % kChannels ? "the number of input channels is not a multiple of 16" : scarlet::Refusal(s);
  }

  InputGradient(const Shape& s, const float* w)
      : kernel_(winograd::Pays(s) ? Kernel(winograd::Convolution(s, w, true)) : Kernel(direct::InputGradient(s, w))) {}

  void Run(const float* dy, float* dx, Index first, Index last) const {
    std::visit([&](const auto& kernel) { kernel.Run(dy, dx, first, last); }, kernel_);
  }

 private:
  using Kernel = std::variant<direct::InputGradient, winograd::Convolution>;
  Kernel kernel_;
};

// dw of y = conv(x, w), from x and dy.
class WeightGradient {
 public:
  static const char* Refusal(const Shape& s) { return Forward::Refusal(s); }

  explicit WeightGradient(const Shape& s)
      : kernel_(winograd::Pays(s) ? Kernel(winograd::WeightGradient(s)) : Kernel(direct::WeightGradient(s))) {}

  // Adds to dw the part of images first to last - 1.
  void Run(const float* x, const float* dy, float* dw, Index first, Index last) const {
    std::visit([&](const auto& kernel) { kernel.Run(x, dy, dw, first, last); }, kernel_);
  }

 private:
  using Kernel = std::variant<direct::WeightGradient, winograd::WeightGradient>;
  Kernel kernel_;
};

}  // namespace scarlet
