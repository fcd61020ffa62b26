// Binds the kernels to XLA. One call convolves all stacked clients; the work is divided over XLA's own thread pool.
//
// Buffers: x [K, B, H, W, in], w [K, kh, kw, in, out], y and dy [K, B, ho, wo, out]; float32, row-major. All shapes are
// compared before anything is read, so that a wrong call is an error and never a write out of bounds.

#include "xla/ffi/api/ffi.h"

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels.h"

namespace {

namespace ffi = xla::ffi;
using scarlet::Index;
using scarlet::Shape;
using Input = ffi::Buffer<ffi::F32>;
using Output = ffi::ResultBuffer<ffi::F32>;
using Dimensions = ffi::Span<const std::int64_t>;

// The least number of images of a part. Parts share the packed weights, but each allocates a padded image of its own.
constexpr Index kImagesPerPart = 2;
// The weight gradient is summed over this many parts of a batch in a fixed order. The number does not depend on the
// threads, so that neither the number of cores nor that of clients changes the bits.
constexpr Index kGradientParts = 4;

// Calls work(0) ... work(count - 1), each once, on the pool's threads and on this one. Returns when all are done.
//
// This thread works, too, so that the call ends even if all threads of the pool are busy or wait in such a call.
template <class Work>
void InParallel(ffi::ThreadPool& pool, Index count, Work&& work) {
  const Index helpers = std::min<Index>(count, pool.num_threads()) - 1;
  if (helpers < 1) {
    for (Index i = 0; i < count; i++) work(i);
    return;
  }
  struct State {
    std::atomic<Index> next{0}, done{0};
    std::atomic<bool> failed{false};
  };
  auto state = std::make_shared<State>();  // a helper that starts after this call has ended uses nothing else
  auto* task = &work;
  auto take = [state, task, count] {
    for (Index i; (i = state->next.fetch_add(1)) < count;) {
      try {
        (*task)(i);
      } catch (...) {  // no exception may leave a thread of the pool
        state->failed = true;
      }
      state->done.fetch_add(1, std::memory_order_release);
    }
  };
  for (Index h = 0; h < helpers; h++) pool.Schedule(decltype(take)(take));
  take();
  while (state->done.load(std::memory_order_acquire) < count) std::this_thread::yield();
  if (state->failed) throw std::bad_alloc();
}

ffi::Error Invalid(const std::string& why) { return ffi::Error::InvalidArgument("native convolution: " + why); }

// Reads the sizes of a convolution from the shapes of x, w and y. Returns null, or why the shapes do not fit together.
const char* Read(Dimensions x, Dimensions w, Dimensions y, Index stride, Index padding, Index& clients, Shape& shape) {
  if (x.size() != 5 || w.size() != 5 || y.size() != 5) return "x, w and y have 5 dimensions";
  clients = x[0];
  shape = {x[1], x[2], x[3], x[4], w[4], w[1], w[2], stride, padding};
  if (w[0] != clients || y[0] != clients) return "the numbers of clients differ";
  if (w[3] != shape.inputs) return "the input channels of x and w differ";
  if (const char* why = scarlet::Refusal(shape)) return why;
  if (y[1] != shape.batch || y[2] != shape.out_height() || y[3] != shape.out_width() || y[4] != shape.outputs) {
    return "y has another size than x and w give";
  }
  return nullptr;
}

// Runs `part(client, first, last)` over parts of the batch of every client.
template <class Part>
void OverImages(ffi::ThreadPool& pool, Index clients, Index batch, Part&& part) {
  const Index parts = std::max<Index>(1, std::min<Index>(pool.num_threads(), batch / kImagesPerPart));
  InParallel(pool, clients * parts, [&](Index task) {
    const Index client = task / parts, p = task % parts;
    part(client, batch * p / parts, batch * (p + 1) / parts);
  });
}

template <class Body>
ffi::Error Guarded(Body&& body) {
  try {
    body();
    return ffi::Error::Success();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("native convolution: ") + error.what());
  }
}

ffi::Error Forward(ffi::ThreadPool pool, Input x, Input w, Output y, Index stride, Index padding) {
  Index clients;
  Shape s;
  const char* why = Read(x.dimensions(), w.dimensions(), y->dimensions(), stride, padding, clients, s);
  if (!why) why = scarlet::Forward::Refusal(s);
  if (why) return Invalid(why);
  return Guarded([&] {
    std::vector<scarlet::Forward> kernels;
    for (Index k = 0; k < clients; k++) kernels.emplace_back(s, w.typed_data() + k * s.weights());
    OverImages(pool, clients, s.batch, [&](Index k, Index first, Index last) {
      const float* images = x.typed_data() + k * s.batch * s.image();
      kernels[k].Run(images, y->typed_data() + k * s.batch * s.out_image(), first, last);
    });
  });
}

ffi::Error InputGradient(ffi::ThreadPool pool, Input w, Input dy, Output dx, Index stride, Index padding) {
  Index clients;
  Shape s;
  const char* why = Read(dx->dimensions(), w.dimensions(), dy.dimensions(), stride, padding, clients, s);
  if (!why) why = scarlet::InputGradient::Refusal(s);
  if (why) return Invalid(why);
  return Guarded([&] {
    std::vector<scarlet::InputGradient> kernels;
    for (Index k = 0; k < clients; k++) kernels.emplace_back(s, w.typed_data() + k * s.weights());
    OverImages(pool, clients, s.batch, [&](Index k, Index first, Index last) {
      const float* gradient = dy.typed_data() + k * s.batch * s.out_image();
      kernels[k].Run(gradient, dx->typed_data() + k * s.batch * s.image(), first, last);
    });
  });
}

ffi::Error WeightGradient(ffi::ThreadPool pool, Input x, Input dy, Output dw, Index stride, Index padding) {
  Index clients;
  Shape s;
  const char* why = Read(x.dimensions(), dw->dimensions(), dy.dimensions(), stride, padding, clients, s);
  if (!why) why = scarlet::WeightGradient::Refusal(s);
  if (why) return Invalid(why);
  return Guarded([&] {
    const scarlet::WeightGradient kernel(s);
    const Index parts = std::max<Index>(1, std::min<Index>(kGradientParts, s.batch)), size = s.weights();
    std::vector<float> sums(clients * parts * size, 0.0f);
    InParallel(pool, clients * parts, [&](Index task) {
      const Index k = task / parts, p = task % parts;
      const float* images = x.typed_data() + k * s.batch * s.image();
      const float* gradient = dy.typed_data() + k * s.batch * s.out_image();
      kernel.Run(images, gradient, &sums[task * size], s.batch * p / parts, s.batch * (p + 1) / parts);
    });
    for (Index k = 0; k < clients; k++) {
      float* out = dw->typed_data() + k * size;
      std::memcpy(out, &sums[k * parts * size], sizeof(float) * size);
      for (Index p = 1; p < parts; p++) {
        const float* sum = &sums[(k * parts + p) * size];
        for (Index i = 0; i < size; i++) out[i] += sum[i];
      }
    }
  });
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<Input>()
      .Arg<Input>()
      .Ret<ffi::Buffer<ffi::F32>>()
      .Attr<Index>("stride")
      .Attr<Index>("padding");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(scarlet_conv_forward, Forward, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(scarlet_conv_input_gradient, InputGradient, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(scarlet_conv_weight_gradient, WeightGradient, Binding());
