// 3x3 convolution by Winograd's F(2x2, 3x3). For each of the image's 4x4 tiles d, which overlap because their step is
// 2, and each kernel g:
//
//     y = A' [ (G g G') * (B' d B) ] A        (* elementwise over the 16 positions, a matrix product over the channels)
//
// These are 16 products for 4 pixels; the definition needs 36. Lavin and Gray, arXiv:1509.09308. `winograd.py` is the
// same in JAX.

#pragma once

#include "products.h"

namespace scarlet::winograd {

constexpr int kPositions = 16;
constexpr Index kPad = 16;  // floats between positions, which would otherwise all be in the same set of the CPU's cache

// Whether this is a 3x3 convolution with stride 1 and padding 1, and numbers of channels that are multiples of 16.
inline bool Applies(const Shape& s) {
  const bool kernel = s.kernel_height == 3 && s.kernel_width == 3 && s.stride == 1 && s.padding == 1;
  return kernel && s.inputs % kChannels == 0 && s.outputs % kChannels == 0;
}

// Whether it is also faster. With fewer channels the transforms take as long as the saved products.
inline bool Pays(const Shape& s) { return Applies(s) && std::min(s.inputs, s.outputs) >= 32; }

// B' d B of the 4x4 pixels at d, for all channels. Position p is written to v + p * apart.
inline void TransformImage(const float* d, Index row, Index channels, float* v, Index apart) {
  auto one = [](const Vector(&d)[4], Vector(&t)[4]) {
    t[0] = d[0] - d[2], t[1] = d[1] + d[2], t[2] = d[2] - d[1], t[3] = d[1] - d[3];
  };
  for (Index c = 0; c < channels; c += kLanes) {
    Vector half[4][4], column[4], out[4];
    for (int j = 0; j < 4; j++) {
      for (int i = 0; i < 4; i++) column[i] = Load(d + i * row + j * channels + c);
      one(column, out);
      for (int i = 0; i < 4; i++) half[i][j] = out[i];
    }
    for (int i = 0; i < 4; i++) {
      one(half[i], out);
      for (int j = 0; j < 4; j++) Store(v + (4 * i + j) * apart + c, out[j]);
    }
  }
}

// A' m A: the 2x2 pixels at y from the 16 positions. Pixels beyond an odd edge are not written.
inline void TransformOutput(const float* m, Index apart, Index channels, float* y, Index row, Index rows,
                            Index columns) {
  for (Index c = 0; c < channels; c += kLanes) {
    Vector half[2][4];
    for (int j = 0; j < 4; j++) {
      Vector p[4];
      for (int i = 0; i < 4; i++) p[i] = Load(m + (4 * i + j) * apart + c);
      half[0][j] = p[0] + p[1] + p[2], half[1][j] = p[1] - p[2] - p[3];
    }
    for (Index i = 0; i < rows; i++) {
      Store(y + i * row + c, half[i][0] + half[i][1] + half[i][2]);
      if (columns > 1) Store(y + i * row + channels + c, half[i][1] - half[i][2] - half[i][3]);
    }
  }
}

// A dy A': the transpose of `TransformOutput`; pixels beyond an odd edge are zeros.
inline void TransformGradient(const float* dy, Index row, Index channels, Index rows, Index columns, float* m,
                              Index apart) {
  for (Index c = 0; c < channels; c += kLanes) {
    Vector y[2][2] = {}, half[4][2];
    for (Index i = 0; i < rows; i++) {
      for (Index j = 0; j < columns; j++) y[i][j] = Load(dy + i * row + j * channels + c);
    }
    for (int j = 0; j < 2; j++) {
      half[0][j] = y[0][j], half[1][j] = y[0][j] + y[1][j], half[2][j] = y[0][j] - y[1][j], half[3][j] = -y[1][j];
    }
    for (int i = 0; i < 4; i++) {
      float* out = m + 4 * i * apart + c;
      Store(out, half[i][0]);
      Store(out + apart, half[i][0] + half[i][1]);
      Store(out + 2 * apart, half[i][0] - half[i][1]);
      Store(out + 3 * apart, -half[i][1]);
    }
  }
}

// A 2x2 block of an image: its first pixel, and its size, which is less than 2x2 at an odd edge.
struct Tile {
  Index row, column, rows, columns;
};

// All tiles of an image, row by row.
inline std::vector<Tile> Tiles(Index height, Index width) {
  std::vector<Tile> tiles;
  for (Index row = 0; row < height; row += 2) {
    for (Index column = 0; column < width; column += 2) {
      tiles.push_back({row, column, std::min<Index>(2, height - row), std::min<Index>(2, width - column)});
    }
  }
  return tiles;
}

// An image with the border that its 4x4 tiles need.
inline Bordered Border(Index height, Index width, Index channels) {
  return Bordered(height, width, channels, 1, 1, 1 + height % 2, 1 + width % 2);
}

// y = conv(x, w); or, if `turned`, dx from dy, which is a convolution with the weights rotated by 180 degrees.
class Convolution {
 public:
  Convolution(const Shape& s, const float* w, bool turned)
      : height_(s.height),
        width_(s.width),
        tiles_(Tiles(s.height, s.width)),
        inputs_(turned ? s.outputs : s.inputs),
        outputs_(turned ? s.inputs : s.outputs),
        row_(RowOf(inputs_)),
        packed_(Uninitialized(kPositions * inputs_ * outputs_)) {
    for (Index v = 0; v < outputs_; v += kLanes) {
      for (Index in = 0; in < inputs_; in++) {
        Vector g[3][3];
        for (Index i = 0; i < 3; i++) {
          for (Index j = 0; j < 3; j++) {
            if (turned) {
              const float* from = w + ((8 - 3 * i - j) * s.inputs + v) * s.outputs + in;
              for (Index l = 0; l < kLanes; l++) g[i][j][l] = from[l * s.outputs];
            } else {
              g[i][j] = Load(w + ((3 * i + j) * s.inputs + in) * s.outputs + v);
            }
          }
        }
        Pack(g, &packed_[v / kChannels * kChannels * inputs_ + in * kChannels + v % kChannels]);
      }
    }
  }

  // Computes images first to last - 1 of the batch. Several threads may call it for different images.
  void Run(const float* x, float* y, Index first, Index last) const {
    // Tiles at once: a multiple of the pixels of the micro-kernel, and few enough for everything to stay in the caches.
    constexpr Index kAtOnce = kVectors == 1 ? 32 : 24;
    const Index in_apart = kAtOnce * inputs_ + kPad, out_apart = kAtOnce * outputs_ + kPad;
    const auto v = Uninitialized(kPositions * in_apart), m = Uninitialized(kPositions * out_apart);
    const std::vector<scarlet::Run> all{{0, inputs_}};
    Bordered border = Border(height_, width_, inputs_);
    const Index pixels = height_ * width_, out_row = width_ * outputs_, tiles = static_cast<Index>(tiles_.size());
    for (Index n = first; n < last; n++) {
      const float* image = border.Copy(x + n * pixels * inputs_);
      float* out = y + n * pixels * outputs_;
      for (Index begin = 0; begin < tiles; begin += kAtOnce) {
        const Index count = std::min(kAtOnce, tiles - begin);
        for (Index t = 0; t < count; t++) {
          const Tile& tile = tiles_[begin + t];
          TransformImage(image + tile.row * border.row() + tile.column * inputs_, border.row(), inputs_,
                         &v[t * inputs_], in_apart);
        }
        for (int p = 0; p < kPositions; p++) {
          for (Index c = 0; c < outputs_; c += kChannels) {
            row_(&v[p * in_apart], inputs_, count, all, &packed_[(p * outputs_ + c) * inputs_], &m[p * out_apart + c],
                 outputs_);
          }
        }
        for (Index t = 0; t < count; t++) {
          const Tile& tile = tiles_[begin + t];
          TransformOutput(&m[t * outputs_], out_apart, outputs_, out + tile.row * out_row + tile.column * outputs_,
                          out_row, tile.rows, tile.columns);
        }
      }
    }
  }

 private:
  // G g G'. Packed weights are [position, block of 16 outputs, input, output in the block].
  void Pack(const Vector (&g)[3][3], float* out) const {
    auto one = [](Vector a, Vector b, Vector c, Vector(&t)[4]) {
      t[0] = a, t[1] = 0.5f * (a + b + c), t[2] = 0.5f * (a - b + c), t[3] = c;
    };
    Vector half[3][4], t[4];
    for (int j = 0; j < 3; j++) one(g[0][j], g[1][j], g[2][j], half[j]);
    for (int i = 0; i < 4; i++) {
      one(half[0][i], half[1][i], half[2][i], t);
      for (int j = 0; j < 4; j++) Store(out + (4 * i + j) * outputs_ * inputs_, t[j]);
    }
  }

  Index height_, width_;
  std::vector<Tile> tiles_;
  Index inputs_, outputs_;
  RowFunction row_;
  Floats packed_;
};

// dw of y = conv(x, w): the products of transformed x and dy are summed over all tiles, and transformed back once.
class WeightGradient {
 public:
  explicit WeightGradient(const Shape& s) : s_(s), tiles_(Tiles(s.height, s.width)) {}

  // Adds to dw the part of images first to last - 1.
  void Run(const float* x, const float* dy, float* dw, Index first, Index last) const {
    constexpr Index kAtOnce = 64;  // tiles, of any images, for which the sums are loaded and stored once
    const Index in_apart = kAtOnce * s_.inputs + kPad, out_apart = kAtOnce * s_.outputs + kPad;
    const auto v = Uninitialized(kPositions * in_apart), m = Uninitialized(kPositions * out_apart);
    const Floats sums = Zeros(kPositions * s_.inputs * s_.outputs);
    Index gathered = 0;
    auto add = [&] {
      const PixelPairs pairs{1, gathered, s_.inputs, 0, s_.outputs};
      for (int p = 0; p < kPositions; p++) {
        for (Index c = 0; c < s_.outputs; c += kChannels) {
          Outers(&v[p * in_apart], s_.inputs, &m[p * out_apart + c], pairs, &sums[p * s_.inputs * s_.outputs + c],
                 s_.outputs);
        }
      }
      gathered = 0;
    };
    Bordered border = Border(s_.height, s_.width, s_.inputs);
    const Index out_row = s_.width * s_.outputs;
    for (Index n = first; n < last; n++) {
      const float* image = border.Copy(x + n * s_.image());
      for (const Tile& t : tiles_) {
        TransformImage(image + t.row * border.row() + t.column * s_.inputs, border.row(), s_.inputs,
                       &v[gathered * s_.inputs], in_apart);
        const float* gradient = dy + n * s_.out_image() + t.row * out_row + t.column * s_.outputs;
        TransformGradient(gradient, out_row, s_.outputs, t.rows, t.columns, &m[gathered * s_.outputs], out_apart);
        if (++gathered == kAtOnce) add();
      }
    }
    if (gathered) add();
    TransformBack(sums.get(), dw);
  }

 private:
  // Adds G' sums G to dw.
  void TransformBack(const float* sums, float* dw) const {
    auto one = [](Vector a, Vector b, Vector c, Vector d, Vector(&t)[3]) {
      t[0] = a + 0.5f * (b + c), t[1] = 0.5f * (b - c), t[2] = 0.5f * (b + c) + d;
    };
    const Index size = s_.inputs * s_.outputs;
    for (Index at = 0; at < size; at += kLanes) {
      Vector half[4][3], t[3];
      for (int j = 0; j < 4; j++) {
        Vector p[4];
        for (int i = 0; i < 4; i++) p[i] = Load(&sums[(4 * i + j) * size + at]);
        one(p[0], p[1], p[2], p[3], half[j]);
      }
      for (int i = 0; i < 3; i++) {
        one(half[0][i], half[1][i], half[2][i], half[3][i], t);
        for (int j = 0; j < 3; j++) {
          float* out = dw + (3 * i + j) * size + at;
          Store(out, Load(out) + t[j]);
        }
      }
    }
  }

  Shape s_;
  std::vector<Tile> tiles_;
};

}  // namespace scarlet::winograd
