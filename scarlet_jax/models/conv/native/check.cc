// Compares the kernels with plain loops over random shapes. Run it with the address and undefined-behaviour sanitizers.
// It prints one line, and exits with 1 at the first difference.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "kernels.h"

using scarlet::Index;
using scarlet::Shape;

namespace {

// Calls `visit` for every product of the convolution, with offsets into x, w and y.
template <class F>
void ForEach(const Shape& s, F&& visit) {
  const Index ho = s.out_height(), wo = s.out_width();
  for (Index n = 0; n < s.batch; n++)
    for (Index y = 0; y < ho; y++)
      for (Index x = 0; x < wo; x++)
        for (Index i = 0; i < s.kernel_height; i++)
          for (Index j = 0; j < s.kernel_width; j++) {
            const Index row = y * s.stride + i - s.padding, column = x * s.stride + j - s.padding;
            if (row < 0 || row >= s.height || column < 0 || column >= s.width) continue;
            for (Index c = 0; c < s.inputs; c++)
              for (Index o = 0; o < s.outputs; o++)
                visit(((n * s.height + row) * s.width + column) * s.inputs + c,
                      ((i * s.kernel_width + j) * s.inputs + c) * s.outputs + o,
                      ((n * ho + y) * wo + x) * s.outputs + o);
          }
}

void Compare(const char* what, const Shape& s, const std::vector<float>& ours, const std::vector<double>& expected) {
  double scale = 1e-6;
  for (double e : expected) scale = std::max(scale, std::fabs(e));
  for (std::size_t i = 0; i < ours.size(); i++) {
    if (!(std::fabs(ours[i] - expected[i]) <= 2e-5 * scale)) {
      std::printf(
          "%s differs at %zu: %g, not %g; batch %d, %d x %d x %d -> %d, kernel %d x %d, stride %d, padding %d\n", what,
          i, ours[i], expected[i], int(s.batch), int(s.height), int(s.width), int(s.inputs), int(s.outputs),
          int(s.kernel_height), int(s.kernel_width), int(s.stride), int(s.padding));
      std::exit(1);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 200;
  std::mt19937 random(7);
  auto draw = [&](Index low, Index high) { return std::uniform_int_distribution<Index>(low, high)(random); };
  std::normal_distribution<float> normal;
  int forward = 0, input = 0, winograd = 0, refused = 0;
  for (int t = 0; t < cases; t++) {
    Shape s{draw(0, 3), draw(1, 11), draw(1, 19), draw(1, 40), draw(1, 40), draw(1, 5), draw(1, 5), draw(1, 3), 0};
    if (draw(0, 2)) s.outputs = 16 * draw(1, 4);
    if (draw(0, 2)) s.inputs = 16 * draw(1, 4);
    s.padding = draw(0, 3);
    if (draw(0, 2) == 0) s.kernel_height = s.kernel_width = 3, s.stride = s.padding = 1;
    if (scarlet::Refusal(s)) {
      refused++;
      continue;
    }
    std::vector<float> x(s.batch * s.image()), w(s.weights()), dy(s.batch * s.out_image());
    for (auto* values : {&x, &w, &dy})
      for (float& value : *values) value = normal(random);
    std::vector<double> plain_y(dy.size(), 0.0), plain_dw(w.size(), 0.0), plain_dx(x.size(), 0.0);
    ForEach(s, [&](Index a, Index b, Index c) {
      plain_y[c] += double(x[a]) * w[b];
      plain_dw[b] += double(x[a]) * dy[c];
      plain_dx[a] += double(w[b]) * dy[c];
    });
    // The batch is computed in two parts, as two threads would do.
    auto forward_is = [&](const char* what, const auto& kernel) {
      std::vector<float> y(dy.size(), NAN);
      for (Index half : {0, 1}) kernel.Run(x.data(), y.data(), half * s.batch / 2, (half + 1) * s.batch / 2);
      Compare(what, s, y, plain_y);
    };
    auto input_gradient_is = [&](const char* what, const auto& kernel) {
      std::vector<float> dx(x.size(), NAN);
      for (Index half : {0, 1}) kernel.Run(dy.data(), dx.data(), half * s.batch / 2, (half + 1) * s.batch / 2);
      Compare(what, s, dx, plain_dx);
    };
    auto weight_gradient_is = [&](const char* what, const auto& kernel) {
      std::vector<float> dw(w.size(), 0.0f);
      kernel.Run(x.data(), dy.data(), dw.data(), 0, s.batch);
      Compare(what, s, dw, plain_dw);
    };
    if (!scarlet::Forward::Refusal(s)) {
      forward_is("y", scarlet::Forward(s, w.data()));
      forward_is("direct y", scarlet::direct::Forward(s, w.data()));
      weight_gradient_is("dw", scarlet::WeightGradient(s));
      weight_gradient_is("direct dw", scarlet::direct::WeightGradient(s));
      forward++;
    }
    if (!scarlet::InputGradient::Refusal(s)) {
      input_gradient_is("dx", scarlet::InputGradient(s, w.data()));
      input_gradient_is("direct dx", scarlet::direct::InputGradient(s, w.data()));
      input++;
    }
    if (scarlet::winograd::Applies(s)) {
      forward_is("Winograd's y", scarlet::winograd::Convolution(s, w.data(), false));
      input_gradient_is("Winograd's dx", scarlet::winograd::Convolution(s, w.data(), true));
      weight_gradient_is("Winograd's dw", scarlet::winograd::WeightGradient(s));
      winograd++;
    }
  }
  std::printf(
      "%d shapes: %d forward and weight gradients, %d input gradients, %d times Winograd's, as plain loops; %d "
      "refused\n",
      cases, forward, input, winograd, refused);
  return forward && input && winograd ? 0 : 1;
}
