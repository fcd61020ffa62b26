# mypy: ignore-errors
"""The convolution, with the sums that BatchNorm needs of it."""

from __future__ import annotations

import triton
import triton.language as tl

from scarlet_jax.models.conv.triton.kernels.parts import (
    add_row,
    add_sums,
    all_weights,
    convolve,
    is_made,
    load_row,
    load_windows,
    no_sums,
    pixels_of,
    store_sums,
)


@triton.jit
def forward(
    x, w, out, sums,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    LOOP: tl.constexpr, KEEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The convolution, and partial sums of out and of its square (as stored) f32[K, programs, 2, COUT].

    Grid: programs, K, COUT / BN.
    """
    PIXELS: tl.constexpr = BATCH * HO * WO
    client = tl.program_id(1).to(tl.int64)
    n = tl.program_id(2) * BN + tl.arange(0, BN)
    x += client * (BATCH * H * W * CIN)
    w += client * (SIZE * SIZE * CIN * COUT)
    out += client * (PIXELS * COUT)
    kernels = all_weights(w, n, x.dtype.element_ty, SIZE, CIN, COUT, BK, False)
    total, squares = no_sums(BM, BN, KEEP)
    for tile in range(LOOP):
        m = (tl.program_id(0) * LOOP + tile) * BM + tl.arange(0, BM)
        inside = m < PIXELS
        image, row, column = pixels_of(m, HO * WO, WO)
        acc = convolve(
            x, w, kernels, image, row, column, inside, n, H, W, STRIDE, SIZE, CIN, COUT, BM, BN, BK, False, PRECISION
        )
        stored = acc.to(out.dtype.element_ty)
        tl.store(out + m[:, None] * COUT + n[None, :], stored, mask=inside[:, None])
        seen = stored.to(tl.float32)  # pixels outside are zeros
        total, squares = add_sums(total, squares, seen, seen * seen, KEEP)
    store_sums(sums, total, squares, client, n, COUT, KEEP)


@triton.jit
def forward_few(
    x, w, out, sums,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, DEPTH: tl.constexpr,
    LOOP: tl.constexpr, KEEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`forward` for few input channels: all taps of a window are one row of a single product."""
    PIXELS: tl.constexpr = BATCH * HO * WO
    client = tl.program_id(1).to(tl.int64)
    n = tl.program_id(2) * BN + tl.arange(0, BN)
    d = tl.arange(0, DEPTH)
    x += client * (BATCH * H * W * CIN)
    w += client * (SIZE * SIZE * CIN * COUT)
    out += client * (PIXELS * COUT)
    kernel = tl.load(w + d[:, None] * COUT + n[None, :], mask=(d < SIZE * SIZE * CIN)[:, None], other=0.0)
    kernel = kernel.to(x.dtype.element_ty)
    total, squares = no_sums(BM, BN, KEEP)
    for tile in range(LOOP):
        m = (tl.program_id(0) * LOOP + tile) * BM + tl.arange(0, BM)
        inside = m < PIXELS
        image, row, column = pixels_of(m, HO * WO, WO)
        windows = load_windows(x, image, row, column, inside, H, W, STRIDE, SIZE, CIN, DEPTH)
        stored = tl.dot(windows, kernel, input_precision=PRECISION).to(out.dtype.element_ty)
        tl.store(out + m[:, None] * COUT + n[None, :], stored, mask=inside[:, None])
        seen = stored.to(tl.float32)
        total, squares = add_sums(total, squares, seen, seen * seen, KEEP)
    store_sums(sums, total, squares, client, n, COUT, KEEP)


@triton.jit
def forward_rows(
    x, w, out, sums,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ROWS: tl.constexpr, AHEAD: tl.constexpr, KEEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`forward` of 3x3 with stride 1, sweeping ROWS rows: a row of the image is loaded once for the three it meets.

    A tile is BM columns of the images of a client. AHEAD: the next row is loaded before this one is used.

    Grid: tiles x blocks of rows, K, COUT / BN.
    """
    COLUMNS: tl.constexpr = BATCH * W
    TILES: tl.constexpr = (COLUMNS + BM - 1) // BM
    client = tl.program_id(1).to(tl.int64)
    n = tl.program_id(2) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    m = tl.program_id(0) % TILES * BM + tl.arange(0, BM)
    first = tl.program_id(0) // TILES * ROWS
    inside = m < COLUMNS
    column = m % W
    pixel = (m // W) * (H * W) + column
    start = x + client * (BATCH * H * W * CIN) + pixel[:, None] * CIN + k[None, :]
    target = out + client * (BATCH * H * W * COUT) + pixel[:, None] * COUT + n[None, :]
    kernels = all_weights(w + client * (9 * CIN * COUT), n, x.dtype.element_ty, 3, CIN, COUT, BK, False)
    above = tl.zeros([BM, BN], tl.float32)
    here = tl.zeros([BM, BN], tl.float32)
    below = tl.zeros([BM, BN], tl.float32)
    total, squares = no_sums(BM, BN, KEEP)
    if AHEAD:
        coming = load_row(start, first - 1, inside, column, H, W, CIN)
    for step in range(ROWS + 2):
        if AHEAD:
            taps = coming
            coming = load_row(start, first + step, inside, column, H, W, CIN)
        else:
            taps = load_row(start, first + step - 1, inside, column, H, W, CIN)
        above, here, below = add_row(taps, kernels, above, here, below, PRECISION)
        row = first + step - 2  # now complete
        stored = above.to(out.dtype.element_ty)
        ok = is_made(inside, column, row, first, H)[:, None]
        tl.store(target + row * (W * COUT), stored, mask=ok)
        seen = tl.where(ok, stored.to(tl.float32), 0.0)
        total, squares = add_sums(total, squares, seen, seen * seen, KEEP)
        above = here
        here = below
        below = tl.zeros([BM, BN], tl.float32)
    store_sums(sums, total, squares, client, n, COUT, KEEP)
