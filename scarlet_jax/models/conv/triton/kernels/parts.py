# mypy: ignore-errors
"""What several kernels are made of: pixels, weights, taps, sums over pixels, the way back through an activation."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def pixels_of(m, IMAGE: tl.constexpr, WIDTH: tl.constexpr):
    """Image, row and column of the pixels m of all images of a client."""
    return m // IMAGE, (m % IMAGE) // WIDTH, m % WIDTH


@triton.jit
def in_image(row, column, up: tl.constexpr, left: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """Whether the pixel (row + up, column + left) lies in the image; (row, column) does."""
    ok = row >= 0
    if up != 0:
        ok = ok & (row + up >= 0) & (row + up < H)
    if left != 0:
        ok = ok & (column + left >= 0) & (column + left < W)
    return ok


@triton.jit
def load_weights(w, tap, rows, columns, CIN: tl.constexpr, COUT: tl.constexpr, TURNED: tl.constexpr):
    """Weights of one tap, [rows, columns] of [CIN, COUT], or of [COUT, CIN] for the gradient."""
    if TURNED:
        return tl.load(w + tap * (CIN * COUT) + columns[None, :] * COUT + rows[:, None])
    return tl.load(w + tap * (CIN * COUT) + rows[:, None] * COUT + columns[None, :])


@triton.jit
def all_weights(
    w, n, dtype: tl.constexpr, SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BK: tl.constexpr,
    TURNED: tl.constexpr,
):  # fmt: skip
    """Weights of all taps, where they are kept for all tiles of a program; nothing otherwise."""
    TAPS: tl.constexpr = SIZE * SIZE
    kernels = ()
    DEPTH: tl.constexpr = COUT if TURNED else CIN
    if BK == DEPTH:
        k = tl.arange(0, BK)
        for tap in tl.static_range(TAPS):
            weights = load_weights(w, TAPS - 1 - tap if TURNED else tap, k, n, CIN, COUT, TURNED)
            kernels = kernels + (weights.to(dtype),)
    return kernels


@triton.jit
def load_tap(
    center, inside, row, column, tap: tl.constexpr, first, H: tl.constexpr, W: tl.constexpr, SIZE: tl.constexpr,
    DEPTH: tl.constexpr,
):  # fmt: skip
    """The pixels that one tap of the window meets, channels from `first` on; zeros outside the image."""
    ok = inside & in_image(row, column, tap // SIZE - SIZE // 2, tap % SIZE - SIZE // 2, H, W)
    shift = ((tap // SIZE - SIZE // 2) * W + tap % SIZE - SIZE // 2) * DEPTH
    return tl.load(center + shift + first, mask=ok[:, None], other=0.0)


@triton.jit
def convolve(
    x, w, kernels, image, row, column, inside, n,
    H: tl.constexpr, W: tl.constexpr, STRIDE: tl.constexpr, SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, TURNED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Products of the window around each pixel with the weights: f32[BM, BN].

    Turned, the convolution is the gradient's: from COUT channels to CIN, with the taps in reverse order.
    """
    TAPS: tl.constexpr = SIZE * SIZE
    DEPTH: tl.constexpr = COUT if TURNED else CIN
    k = tl.arange(0, BK)
    center = x + ((image * H + row * STRIDE) * W + column * STRIDE)[:, None] * DEPTH + k[None, :]
    acc = tl.zeros([BM, BN], tl.float32)
    if BK == DEPTH:
        for tap in tl.static_range(TAPS):
            values = load_tap(center, inside, row * STRIDE, column * STRIDE, tap, 0, H, W, SIZE, DEPTH)
            acc = tl.dot(values, kernels[tap], acc, input_precision=PRECISION)
    else:
        for tap in tl.static_range(TAPS):
            for first in range(0, DEPTH, BK):
                values = load_tap(center, inside, row * STRIDE, column * STRIDE, tap, first, H, W, SIZE, DEPTH)
                weights = load_weights(w, TAPS - 1 - tap if TURNED else tap, first + k, n, CIN, COUT, TURNED)
                acc = tl.dot(values, weights.to(values.dtype), acc, input_precision=PRECISION)
    return acc


@triton.jit
def load_windows(
    x, image, row, column, inside, H: tl.constexpr, W: tl.constexpr, STRIDE: tl.constexpr, SIZE: tl.constexpr,
    CIN: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """All taps of a window, and all channels, side by side: [pixels, DEPTH]; zeros beyond SIZE * SIZE * CIN."""
    d = tl.arange(0, DEPTH)
    tap = d // CIN
    r = row[:, None] * STRIDE + (tap // SIZE - SIZE // 2)[None, :]
    c = column[:, None] * STRIDE + (tap % SIZE - SIZE // 2)[None, :]
    ok = inside[:, None] & (d < SIZE * SIZE * CIN)[None, :] & (r >= 0) & (r < H) & (c >= 0) & (c < W)
    return tl.load(x + ((image[:, None] * H + r) * W + c) * CIN + (d % CIN)[None, :], mask=ok, other=0.0)


@triton.jit
def load_row(start, q, inside, column, H: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr):
    """Row q of the image for each pixel of a tile: its left neighbour, itself, its right neighbour."""
    rows = tl.zeros_like(column) + q  # the interpreter takes no scalar into a mask
    ok = inside & (rows >= 0) & (rows < H)
    at = start + q * (W * DEPTH)
    return (
        tl.load(at - DEPTH, mask=(ok & (column > 0))[:, None], other=0.0),
        tl.load(at, mask=ok[:, None], other=0.0),
        tl.load(at + DEPTH, mask=(ok & (column < W - 1))[:, None], other=0.0),
    )


@triton.jit
def is_made(inside, column, row, first, H: tl.constexpr):
    """Whether a pixel of this row of the result is this program's to store."""
    rows = tl.zeros_like(column) + row
    return inside & (rows >= first) & (rows < H)


@triton.jit
def add_row(taps, kernels, above, here, below, PRECISION: tl.constexpr):
    """Add what one row of the image gives to the rows of the result above it, at it and below it."""
    for b in tl.static_range(3):
        above = tl.dot(taps[b], kernels[6 + b], above, input_precision=PRECISION)
        here = tl.dot(taps[b], kernels[3 + b], here, input_precision=PRECISION)
        below = tl.dot(taps[b], kernels[b], below, input_precision=PRECISION)
    return above, here, below


@triton.jit
def no_sums(BM: tl.constexpr, BN: tl.constexpr, KEEP: tl.constexpr):
    """Start of two sums over pixels; KEEP: pixel by pixel, and over the tile at the end only."""
    if KEEP:
        return tl.zeros([BM, BN], tl.float32), tl.zeros([BM, BN], tl.float32)
    else:
        return tl.zeros([BN], tl.float32), tl.zeros([BN], tl.float32)


@triton.jit
def add_sums(first, second, a, b, KEEP: tl.constexpr):
    """Two sums with the values a and b [BM, BN] of one more tile."""
    if KEEP:
        return first + a, second + b
    else:
        return first + tl.sum(a, 0), second + tl.sum(b, 0)


@triton.jit
def store_sums(sums, first, second, client, n, CHANNELS: tl.constexpr, KEEP: tl.constexpr):
    """Into the program's place of f32[K, programs, 2, CHANNELS]."""
    at = sums + (client * tl.num_programs(0) + tl.program_id(0)) * (2 * CHANNELS) + n
    if KEEP:
        tl.store(at, tl.sum(first, 0))
        tl.store(at + CHANNELS, tl.sum(second, 0))
    else:
        tl.store(at, first)
        tl.store(at + CHANNELS, second)


@triton.jit
def through_activation(
    dz, y, z, extra, factor, offset, out, place, n, inside,
    ACTIVE: tl.constexpr, KEPT: tl.constexpr, EXTRA: tl.constexpr,
):  # fmt: skip
    """Store what passes through the ReLU of one tile, and return it times y, and by itself: f32[BM, BN]."""
    if EXTRA:
        dz += tl.load(extra + place, mask=inside, other=0.0).to(tl.float32)
    if ACTIVE:
        value = tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
        if KEPT:  # z is 0 in padding rows, too
            passes = tl.load(z + place, mask=inside, other=0.0) > 0
        else:
            passes = value * tl.load(factor + n)[None, :] + tl.load(offset + n)[None, :] > 0
        dz = tl.where(passes, dz, 0.0)
        tl.store(out + place, dz.to(out.dtype.element_ty), mask=inside)
        dz = tl.where(inside, dz, 0.0)
        return dz * value, dz
    tl.store(out + place, dz.to(out.dtype.element_ty), mask=inside)
    return dz, dz
