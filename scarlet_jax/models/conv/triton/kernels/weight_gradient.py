# mypy: ignore-errors
"""The gradient in a convolution's weights, in partial sums over pixels."""

from __future__ import annotations

import triton
import triton.language as tl

from scarlet_jax.models.conv.triton.kernels.parts import (
    load_windows,
    pixels_of,
)


@triton.jit
def weight_gradient(
    x, d, dw,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BI: tl.constexpr, BO: tl.constexpr, BP: tl.constexpr,
    PART: tl.constexpr, ROWS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Partial sums f32[K, SPLIT, SIZE, SIZE, CIN, COUT], each over PART pixels, a multiple of BP.

    A program makes ROWS rows of taps for BI x BO channels. With stride 1, x is loaded once a row and d once a column of
    taps: the sum is over the pixels of x in the column where the product takes place.

    Grid: SPLIT, (SIZE / ROWS) * (CIN / BI) * (COUT / BO), K.
    """
    PIXELS: tl.constexpr = BATCH * HO * WO
    client = tl.program_id(2).to(tl.int64)
    group = tl.program_id(1)
    ci = (group // (COUT // BO)) % (CIN // BI) * BI + tl.arange(0, BI)
    co = group % (COUT // BO) * BO + tl.arange(0, BO)
    top = group // ((COUT // BO) * (CIN // BI)) * ROWS  # first row of taps
    x += client * (BATCH * H * W * CIN)
    d += client * (PIXELS * COUT)
    acc = ()
    for _ in tl.static_range(ROWS * SIZE):
        acc = acc + (tl.zeros([BI, BO], tl.float32),)
    for start in range(0, PART, BP):
        m = tl.program_id(0) * PART + start + tl.arange(0, BP)
        inside = m < PIXELS
        image, row, column = pixels_of(m, HO * WO, WO)
        new = ()
        if STRIDE == 1:
            gradients = ()
            for b in tl.static_range(SIZE):
                left = b - SIZE // 2
                ok = inside & (column - left >= 0) & (column - left < W)
                gradients = gradients + (
                    tl.load(d + (m - left)[:, None] * COUT + co[None, :], mask=ok[:, None], other=0.0),
                )
            for a in tl.static_range(ROWS):
                up = top + a - SIZE // 2
                ok = inside & (row + up >= 0) & (row + up < H)
                values = tl.trans(tl.load(x + (m + up * W)[:, None] * CIN + ci[None, :], mask=ok[:, None], other=0.0))
                for b in tl.static_range(SIZE):
                    new = new + (tl.dot(values, gradients[b], acc[a * SIZE + b], input_precision=PRECISION),)
        else:
            gradient = tl.load(d + m[:, None] * COUT + co[None, :], mask=inside[:, None], other=0.0)
            for a in tl.static_range(ROWS):
                r = row * STRIDE + top + a - SIZE // 2
                for b in tl.static_range(SIZE):
                    c = column * STRIDE + (b - SIZE // 2)
                    ok = inside & (r >= 0) & (r < H) & (c >= 0) & (c < W)
                    place = ((image * H + r) * W + c)[:, None] * CIN + ci[None, :]
                    values = tl.trans(tl.load(x + place, mask=ok[:, None], other=0.0))
                    new = new + (tl.dot(values, gradient, acc[a * SIZE + b], input_precision=PRECISION),)
        acc = new
    dw += (client * tl.num_programs(0) + tl.program_id(0)) * (SIZE * SIZE * CIN * COUT)
    for a in tl.static_range(ROWS):
        for b in tl.static_range(SIZE):
            tap = (top + a) * SIZE + b
            tl.store(dw + (tap * CIN + ci[:, None]) * COUT + co[None, :], acc[a * SIZE + b])


@triton.jit
def _beside(
    x, d, m, i, o, PIXELS: tl.constexpr, H: tl.constexpr, W: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr
):
    """Three rows of x side by side, and three columns of its gradient, as seen from the pixels m."""
    _, row, column = pixels_of(m, H * W, W)
    inside = m < PIXELS
    shift = i // CIN - 1
    r = row[:, None] + shift[None, :]
    ok = inside[:, None] & (i < 3 * CIN)[None, :] & (r >= 0) & (r < H)
    values = tl.load(x + m[:, None] * CIN + (shift * (W * CIN) + i % CIN)[None, :], mask=ok, other=0.0)
    left = o // COUT - 1
    c = column[:, None] - left[None, :]
    ok = inside[:, None] & (o < 3 * COUT)[None, :] & (c >= 0) & (c < W)
    gradient = tl.load(d + m[:, None] * COUT + (o % COUT - left * COUT)[None, :], mask=ok, other=0.0)
    return values, gradient


@triton.jit
def weight_gradient_wide(
    x, d, dw,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BI: tl.constexpr, BO: tl.constexpr, BP: tl.constexpr,
    PART: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`weight_gradient` of 3x3 with narrow layers: taps and channels side by side, BI >= 3 CIN of the input.

    With stride 1 one product makes all taps: rows of taps beside the input's channels, columns beside the output's (BO
    >= 3 COUT); otherwise one product makes a row of taps (BO = COUT). Grid: SPLIT, 1, K.
    """
    PIXELS: tl.constexpr = BATCH * HO * WO
    client = tl.program_id(2).to(tl.int64)
    i = tl.arange(0, BI)
    o = tl.arange(0, BO)
    x += client * (BATCH * H * W * CIN)
    d += client * (PIXELS * COUT)
    shift = i // CIN - 1
    acc = (tl.zeros([BI, BO], tl.float32),)
    if STRIDE > 1:
        acc = acc + (tl.zeros([BI, BO], tl.float32), tl.zeros([BI, BO], tl.float32))
    for start in range(0, PART, BP):
        m = tl.program_id(0) * PART + start + tl.arange(0, BP)
        inside = m < PIXELS
        image, row, column = pixels_of(m, HO * WO, WO)
        if STRIDE == 1:
            values, gradient = _beside(x, d, m, i, o, PIXELS, H, W, CIN, COUT)
            acc = (tl.dot(tl.trans(values), gradient, acc[0], input_precision=PRECISION),)
        else:
            gradient = tl.load(d + m[:, None] * COUT + o[None, :], mask=inside[:, None], other=0.0)
            c = (column * STRIDE)[:, None] + shift[None, :]
            fits = inside[:, None] & (i < 3 * CIN)[None, :] & (c >= 0) & (c < W)
            place = ((image * H + row * STRIDE) * W + column * STRIDE - 1)[:, None] * CIN + i[None, :]
            new = ()
            for a in tl.static_range(3):
                r = row * STRIDE + a - 1
                ok = fits & ((r >= 0) & (r < H))[:, None]
                values = tl.load(x + place + (a - 1) * (W * CIN), mask=ok, other=0.0)
                new = new + (tl.dot(tl.trans(values), gradient, acc[a], input_precision=PRECISION),)
            acc = new
    dw += (client * tl.num_programs(0) + tl.program_id(0)) * (9 * CIN * COUT)
    if STRIDE == 1:
        tap = (i // CIN * 3)[:, None] + (o // COUT)[None, :]
        real = (i < 3 * CIN)[:, None] & (o < 3 * COUT)[None, :]
        tl.store(dw + (tap * CIN + (i % CIN)[:, None]) * COUT + (o % COUT)[None, :], acc[0], mask=real)
    else:
        for a in tl.static_range(3):
            place = (a * 3 * CIN + i)[:, None] * COUT + o[None, :]
            tl.store(dw + place, acc[a], mask=(i < 3 * CIN)[:, None])


@triton.jit
def weight_gradient_few(
    x, d, dw,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BO: tl.constexpr, BP: tl.constexpr,
    PART: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`weight_gradient` for few input channels. Grid: SPLIT, COUT / BO, K."""
    PIXELS: tl.constexpr = BATCH * HO * WO
    client = tl.program_id(2).to(tl.int64)
    co = tl.program_id(1) * BO + tl.arange(0, BO)
    x += client * (BATCH * H * W * CIN)
    d += client * (PIXELS * COUT)
    acc = tl.zeros([DEPTH, BO], tl.float32)
    for start in range(0, PART, BP):
        m = tl.program_id(0) * PART + start + tl.arange(0, BP)
        inside = m < PIXELS
        image, row, column = pixels_of(m, HO * WO, WO)
        windows = load_windows(x, image, row, column, inside, H, W, STRIDE, SIZE, CIN, DEPTH)
        gradient = tl.load(d + m[:, None] * COUT + co[None, :], mask=inside[:, None], other=0.0)
        acc = tl.dot(tl.trans(windows), gradient, acc, input_precision=PRECISION)
    dw += (client * tl.num_programs(0) + tl.program_id(0)) * (SIZE * SIZE * CIN * COUT)
    r = tl.arange(0, DEPTH)
    tl.store(dw + r[:, None] * COUT + co[None, :], acc, mask=(r < SIZE * SIZE * CIN)[:, None])
