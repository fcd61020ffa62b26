# mypy: ignore-errors
"""The gradient in a convolution's input, through the activation that made it, with its sums."""

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
    load_weights,
    no_sums,
    pixels_of,
    store_sums,
    through_activation,
)


@triton.jit
def input_gradient(
    d, w, y, z, extra, factor, offset, out, sums,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    LOOP: tl.constexpr, KEEP: tl.constexpr, PRECISION: tl.constexpr,
    ACTIVE: tl.constexpr, KEPT: tl.constexpr, EXTRA: tl.constexpr,
):  # fmt: skip
    """Stride 1: the gradient before the activation, and its partial sums f32[K, programs, 2, CIN].

    The convolution's input is z = relu(y * factor + offset + ...) if ACTIVE, and has no history otherwise; then the
    sums mean nothing. KEPT: z is given (otherwise y decides what passes). EXTRA: another gradient that reaches z is
    added. Arguments that are not used may be anything.

    Grid: programs, K, CIN / BN.
    """
    PIXELS: tl.constexpr = BATCH * H * W
    client = tl.program_id(1).to(tl.int64)
    n = tl.program_id(2) * BN + tl.arange(0, BN)
    d += client * (PIXELS * COUT)
    w += client * (SIZE * SIZE * CIN * COUT)
    base = client * (PIXELS * CIN)
    kernels = all_weights(w, n, d.dtype.element_ty, SIZE, CIN, COUT, BK, True)
    times_y, alone = no_sums(BM, BN, KEEP)
    for tile in range(LOOP):
        m = (tl.program_id(0) * LOOP + tile) * BM + tl.arange(0, BM)
        inside = m < PIXELS
        image, row, column = pixels_of(m, H * W, W)
        dz = convolve(
            d, w, kernels, image, row, column, inside, n, H, W, 1, SIZE, CIN, COUT, BM, BN, BK, True, PRECISION
        )
        place = base + m[:, None] * CIN + n[None, :]
        first, second = through_activation(
            dz, y, z, extra, factor + client * CIN, offset + client * CIN, out, place, n, inside[:, None],
            ACTIVE, KEPT, EXTRA,
        )  # fmt: skip
        times_y, alone = add_sums(times_y, alone, first, second, KEEP)
    store_sums(sums, times_y, alone, client, n, CIN, KEEP)


@triton.jit
def input_gradient_rows(
    d, w, y, z, extra, factor, offset, out, sums,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ROWS: tl.constexpr, AHEAD: tl.constexpr, KEEP: tl.constexpr, PRECISION: tl.constexpr,
    ACTIVE: tl.constexpr, KEPT: tl.constexpr, EXTRA: tl.constexpr,
):  # fmt: skip
    """`input_gradient` of 3x3, sweeping ROWS rows as `forward_rows` does. Grid: tiles x blocks of rows, K, CIN / BN."""
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
    start = d + client * (BATCH * H * W * COUT) + pixel[:, None] * COUT + k[None, :]
    place = client * (BATCH * H * W * CIN) + pixel[:, None] * CIN + n[None, :]
    kernels = all_weights(w + client * (9 * CIN * COUT), n, d.dtype.element_ty, 3, CIN, COUT, BK, True)
    above = tl.zeros([BM, BN], tl.float32)
    here = tl.zeros([BM, BN], tl.float32)
    below = tl.zeros([BM, BN], tl.float32)
    times_y, alone = no_sums(BM, BN, KEEP)
    if AHEAD:
        coming = load_row(start, first - 1, inside, column, H, W, COUT)
    for step in range(ROWS + 2):
        row = first + step - 2
        ok = is_made(inside, column, row, first, H)[:, None]
        at = place + row * (W * CIN)
        if EXTRA:
            more = tl.load(extra + at, mask=ok, other=0.0)
        if ACTIVE:
            value = tl.load(y + at, mask=ok, other=0.0)
            if KEPT:
                kept = tl.load(z + at, mask=ok, other=0.0)
        if AHEAD:
            taps = coming
            coming = load_row(start, first + step, inside, column, H, W, COUT)
        else:
            taps = load_row(start, first + step - 1, inside, column, H, W, COUT)
        above, here, below = add_row(taps, kernels, above, here, below, PRECISION)
        if EXTRA:
            above += more.to(tl.float32)
        if ACTIVE:
            wide = value.to(tl.float32)
            if KEPT:  # z is 0 in padding rows, too
                passes = kept > 0
            else:
                pre = wide * tl.load(factor + client * CIN + n)[None, :] + tl.load(offset + client * CIN + n)[None, :]
                passes = pre > 0
            above = tl.where(ok & passes, above, 0.0)
            times_y, alone = add_sums(times_y, alone, above * wide, above, KEEP)
        tl.store(out + at, above.to(out.dtype.element_ty), mask=ok)
        above = here
        here = below
        below = tl.zeros([BM, BN], tl.float32)
    store_sums(sums, times_y, alone, client, n, CIN, KEEP)


@triton.jit
def _neighbour(
    center, inside, row, column, down: tl.constexpr, right: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr,
    COUT: tl.constexpr,
):  # fmt: skip
    """Pixels of out's gradient `down` rows and `right` columns further; zeros outside."""
    ok = inside & (row + down < HO) & (column + right < WO)
    return tl.load(center + (down * WO + right) * COUT, mask=ok[:, None], other=0.0)


@triton.jit
def input_gradient_halved(
    d, w, y, z, extra, factor, offset, out, sums,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    LOOP: tl.constexpr, KEEP: tl.constexpr, PRECISION: tl.constexpr,
    ACTIVE: tl.constexpr, KEPT: tl.constexpr, EXTRA: tl.constexpr,
):  # fmt: skip
    """`input_gradient` for stride 2: of a tile of out's pixels, the four input pixels that belong to each.

    An input pixel of even row and column meets one tap, of odd row and column four, others two; no tap is masked away.
    """
    PIXELS: tl.constexpr = BATCH * HO * WO
    client = tl.program_id(1).to(tl.int64)
    n = tl.program_id(2) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    d += client * (PIXELS * COUT)
    w += client * (SIZE * SIZE * CIN * COUT)
    base = client * (BATCH * H * W * CIN)
    times_y, alone = no_sums(BM, BN, KEEP)
    kernels = all_weights(w, n, d.dtype.element_ty, SIZE, CIN, COUT, BK, True)  # the last tap first
    for tile in range(LOOP):
        m = (tl.program_id(0) * LOOP + tile) * BM + tl.arange(0, BM)
        inside = m < PIXELS
        image, row, column = pixels_of(m, HO * WO, WO)
        center = d + m[:, None] * COUT + k[None, :]
        if BK == COUT:
            gradients = (_neighbour(center, inside, row, column, 0, 0, HO, WO, COUT),)
            if SIZE == 3:
                gradients = gradients + (
                    _neighbour(center, inside, row, column, 0, 1, HO, WO, COUT),
                    _neighbour(center, inside, row, column, 1, 0, HO, WO, COUT),
                    _neighbour(center, inside, row, column, 1, 1, HO, WO, COUT),
                )
        for parity in tl.static_range(4):
            dz = tl.zeros([BM, BN], tl.float32)
            if SIZE == 3 or parity == 0:
                for down in tl.static_range(parity // 2 + 1):
                    for right in tl.static_range(parity % 2 + 1):
                        # An even row meets tap 1; an odd one tap 2 of its own output and tap 0 of the next. The same
                        # for columns.
                        if BK == COUT and SIZE == 3:
                            dz = tl.dot(
                                gradients[down * 2 + right],
                                kernels[(1 - parity // 2 + 2 * down) * 3 + 1 - parity % 2 + 2 * right],
                                dz,
                                input_precision=PRECISION,
                            )
                        elif BK == COUT:
                            dz = tl.dot(gradients[0], kernels[0], dz, input_precision=PRECISION)
                        else:
                            tap = (1 + parity // 2 - 2 * down) * 3 + 1 + parity % 2 - 2 * right if SIZE == 3 else 0
                            ok = inside & (row + down < HO) & (column + right < WO)
                            for start in range(0, COUT, BK):
                                values = tl.load(
                                    center + (down * WO + right) * COUT + start, mask=ok[:, None], other=0.0
                                )
                                weights = load_weights(w, tap, start + k, n, CIN, COUT, True).to(values.dtype)
                                dz = tl.dot(values, weights, dz, input_precision=PRECISION)
            r = 2 * row + parity // 2
            c = 2 * column + parity % 2
            place = base + ((image * H + r) * W + c)[:, None] * CIN + n[None, :]
            first, second = through_activation(
                dz, y, z, extra, factor + client * CIN, offset + client * CIN, out, place, n,
                (inside & (r < H) & (c < W))[:, None], ACTIVE, KEPT, EXTRA,
            )  # fmt: skip
            times_y, alone = add_sums(times_y, alone, first, second, KEEP)
    store_sums(sums, times_y, alone, client, n, CIN, KEEP)
