// Compares the kernels with plain loops over random shapes; meant to be run under the address and undefined-behaviour
// sanitizers. Prints one line, and exits with 1 at the first difference.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "kernels.h"

using scarlet::Index;
using scarlet::Shape;

namespace {

// Visits every product of the convolution: offsets into x, w and y.
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
  int forward = 0, input = 0, refused = 0;
  for (int t = 0; t < cases; t++) {
    Shape s{draw(0, 3), draw(1, 11), draw(1, 11), draw(1, 40), draw(1, 40), draw(1, 5), draw(1, 5), draw(1, 3), 0};
    if (draw(0, 2)) s.outputs = 16 * draw(1, 4);
    if (draw(0, 2)) s.inputs = 16 * draw(1, 4);
    s.padding = draw(0, 3);
    if (scarlet::Refusal(s)) {
      refused++;
      continue;
    }
    std::vector<float> x(s.batch * s.image()), w(s.weights()), dy(s.batch * s.out_image());
    for (auto* values : {&x, &w, &dy})
      for (float& value : *values) value = normal(random);
    if (!scarlet::Forward::Refusal(s)) {
      std::vector<float> y(dy.size(), NAN), dw(w.size(), 0.0f);
      std::vector<double> plain_y(y.size(), 0.0), plain_dw(w.size(), 0.0);
      scarlet::Forward(s, w.data()).Run(x.data(), y.data(), 0, s.batch);
      scarlet::WeightGradient(s).Run(x.data(), dy.data(), dw.data(), 0, s.batch);
      ForEach(s, [&](Index a, Index b, Index c) {
        plain_y[c] += double(x[a]) * w[b];
        plain_dw[b] += double(x[a]) * dy[c];
      });
      Compare("y", s, y, plain_y);
      Compare("dw", s, dw, plain_dw);
      forward++;
    }
    if (!scarlet::InputGradient::Refusal(s)) {
      std::vector<float> dx(x.size(), NAN);
      std::vector<double> plain_dx(x.size(), 0.0);
      scarlet::InputGradient(s, w.data()).Run(dy.data(), dx.data(), 0, s.batch);
      ForEach(s, [&](Index a, Index b, Index c) { plain_dx[a] += double(w[b]) * dy[c]; });
      Compare("dx", s, dx, plain_dx);
      input++;
    }
  }
  std::printf("%d shapes: %d forward and weight gradients, %d input gradients as plain loops; %d refused\n", cases,
              forward, input, refused);
  return forward && input ? 0 : 1;
}
