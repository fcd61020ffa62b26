# mypy: ignore-errors
"""Triton kernels: the convolution of stacked clients and its gradients, each with what surrounds it in a network.

Every client has its own images and its own weights. Arrays are contiguous: x [K, B, H, W, CIN], w f32[K, SIZE, SIZE,
CIN, COUT], out and its gradient [K, B, HO, WO, COUT]. A program works on one client, for `LOOP` tiles of `BM` pixels,
whose weights it loads once. Sums over pixels leave a program as a partial sum, to be added in a fixed order afterwards:
a run repeats its bits.

`geometry.py` says which shapes are covered; nothing here checks them. The kernels also run in Triton's interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _pixels(m, IMAGE: tl.constexpr, WIDTH: tl.constexpr):
    """Image, row and column of the pixels m of all images of a client."""
    return m // IMAGE, (m % IMAGE) // WIDTH, m % WIDTH


@triton.jit
def _inside(row, column, up: tl.constexpr, left: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """Whether the pixel (row + up, column + left) lies in the image; (row, column) does."""
    ok = row >= 0
    if up != 0:
        ok = ok & (row + up >= 0) & (row + up < H)
    if left != 0:
        ok = ok & (column + left >= 0) & (column + left < W)
    return ok


@triton.jit
def _weights(w, tap, rows, columns, CIN: tl.constexpr, COUT: tl.constexpr, TURNED: tl.constexpr):
    """Weights of one tap, [rows, columns] of [CIN, COUT], or of [COUT, CIN] for the gradient."""
    if TURNED:
        return tl.load(w + tap * (CIN * COUT) + columns[None, :] * COUT + rows[:, None])
    return tl.load(w + tap * (CIN * COUT) + rows[:, None] * COUT + columns[None, :])


@triton.jit
def _tap(
    center, inside, row, column, tap: tl.constexpr, first, H: tl.constexpr, W: tl.constexpr, SIZE: tl.constexpr,
    DEPTH: tl.constexpr,
):  # fmt: skip
    """The pixels that one tap of the window meets, channels from `first` on; zeros outside the image."""
    ok = inside & _inside(row, column, tap // SIZE - SIZE // 2, tap % SIZE - SIZE // 2, H, W)
    shift = ((tap // SIZE - SIZE // 2) * W + tap % SIZE - SIZE // 2) * DEPTH
    return tl.load(center + shift + first, mask=ok[:, None], other=0.0)


@triton.jit
def _convolve(
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
            values = _tap(center, inside, row * STRIDE, column * STRIDE, tap, 0, H, W, SIZE, DEPTH)
            acc = tl.dot(values, kernels[tap], acc, input_precision=PRECISION)
    else:
        for tap in tl.static_range(TAPS):
            for first in range(0, DEPTH, BK):
                values = _tap(center, inside, row * STRIDE, column * STRIDE, tap, first, H, W, SIZE, DEPTH)
                weights = _weights(w, TAPS - 1 - tap if TURNED else tap, first + k, n, CIN, COUT, TURNED)
                acc = tl.dot(values, weights.to(values.dtype), acc, input_precision=PRECISION)
    return acc


@triton.jit
def _all_weights(
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
            weights = _weights(w, TAPS - 1 - tap if TURNED else tap, k, n, CIN, COUT, TURNED)
            kernels = kernels + (weights.to(dtype),)
    return kernels


@triton.jit
def _no_sums(BM: tl.constexpr, BN: tl.constexpr, KEEP: tl.constexpr):
    """Start of two sums over pixels; KEEP: pixel by pixel, and over the tile at the end only."""
    if KEEP:
        return tl.zeros([BM, BN], tl.float32), tl.zeros([BM, BN], tl.float32)
    else:
        return tl.zeros([BN], tl.float32), tl.zeros([BN], tl.float32)


@triton.jit
def _add_sums(first, second, a, b, KEEP: tl.constexpr):
    if KEEP:
        return first + a, second + b
    else:
        return first + tl.sum(a, 0), second + tl.sum(b, 0)


@triton.jit
def _store_sums(sums, first, second, client, n, CHANNELS: tl.constexpr, KEEP: tl.constexpr):
    """Into the program's place of f32[K, programs, 2, CHANNELS]."""
    at = sums + (client * tl.num_programs(0) + tl.program_id(0)) * (2 * CHANNELS) + n
    if KEEP:
        tl.store(at, tl.sum(first, 0))
        tl.store(at + CHANNELS, tl.sum(second, 0))
    else:
        tl.store(at, first)
        tl.store(at + CHANNELS, second)


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
    kernels = _all_weights(w, n, x.dtype.element_ty, SIZE, CIN, COUT, BK, False)
    total, squares = _no_sums(BM, BN, KEEP)
    for tile in range(LOOP):
        m = (tl.program_id(0) * LOOP + tile) * BM + tl.arange(0, BM)
        inside = m < PIXELS
        image, row, column = _pixels(m, HO * WO, WO)
        acc = _convolve(
            x, w, kernels, image, row, column, inside, n, H, W, STRIDE, SIZE, CIN, COUT, BM, BN, BK, False, PRECISION
        )
        stored = acc.to(out.dtype.element_ty)
        tl.store(out + m[:, None] * COUT + n[None, :], stored, mask=inside[:, None])
        seen = stored.to(tl.float32)  # pixels outside are zeros
        total, squares = _add_sums(total, squares, seen, seen * seen, KEEP)
    _store_sums(sums, total, squares, client, n, COUT, KEEP)


@triton.jit
def _windows(
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
    total, squares = _no_sums(BM, BN, KEEP)
    for tile in range(LOOP):
        m = (tl.program_id(0) * LOOP + tile) * BM + tl.arange(0, BM)
        inside = m < PIXELS
        image, row, column = _pixels(m, HO * WO, WO)
        windows = _windows(x, image, row, column, inside, H, W, STRIDE, SIZE, CIN, DEPTH)
        stored = tl.dot(windows, kernel, input_precision=PRECISION).to(out.dtype.element_ty)
        tl.store(out + m[:, None] * COUT + n[None, :], stored, mask=inside[:, None])
        seen = stored.to(tl.float32)
        total, squares = _add_sums(total, squares, seen, seen * seen, KEEP)
    _store_sums(sums, total, squares, client, n, COUT, KEEP)


@triton.jit
def _through_activation(
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
    kernels = _all_weights(w, n, d.dtype.element_ty, SIZE, CIN, COUT, BK, True)
    times_y, alone = _no_sums(BM, BN, KEEP)
    for tile in range(LOOP):
        m = (tl.program_id(0) * LOOP + tile) * BM + tl.arange(0, BM)
        inside = m < PIXELS
        image, row, column = _pixels(m, H * W, W)
        dz = _convolve(
            d, w, kernels, image, row, column, inside, n, H, W, 1, SIZE, CIN, COUT, BM, BN, BK, True, PRECISION
        )
        place = base + m[:, None] * CIN + n[None, :]
        first, second = _through_activation(
            dz, y, z, extra, factor + client * CIN, offset + client * CIN, out, place, n, inside[:, None],
            ACTIVE, KEPT, EXTRA,
        )  # fmt: skip
        times_y, alone = _add_sums(times_y, alone, first, second, KEEP)
    _store_sums(sums, times_y, alone, client, n, CIN, KEEP)


@triton.jit
def _row_of_taps(start, q, inside, column, H: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr):
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
def _made(inside, column, row, first, H: tl.constexpr):
    """Whether a pixel of this row of the result is this program's to store."""
    rows = tl.zeros_like(column) + row
    return inside & (rows >= first) & (rows < H)


@triton.jit
def _sweep(taps, kernels, above, here, below, PRECISION: tl.constexpr):
    """Add what one row of the image gives to the rows of the result above it, at it and below it."""
    for b in tl.static_range(3):
        above = tl.dot(taps[b], kernels[6 + b], above, input_precision=PRECISION)
        here = tl.dot(taps[b], kernels[3 + b], here, input_precision=PRECISION)
        below = tl.dot(taps[b], kernels[b], below, input_precision=PRECISION)
    return above, here, below


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
    kernels = _all_weights(w + client * (9 * CIN * COUT), n, x.dtype.element_ty, 3, CIN, COUT, BK, False)
    above = tl.zeros([BM, BN], tl.float32)
    here = tl.zeros([BM, BN], tl.float32)
    below = tl.zeros([BM, BN], tl.float32)
    total, squares = _no_sums(BM, BN, KEEP)
    if AHEAD:
        coming = _row_of_taps(start, first - 1, inside, column, H, W, CIN)
    for step in range(ROWS + 2):
        if AHEAD:
            taps = coming
            coming = _row_of_taps(start, first + step, inside, column, H, W, CIN)
        else:
            taps = _row_of_taps(start, first + step - 1, inside, column, H, W, CIN)
        above, here, below = _sweep(taps, kernels, above, here, below, PRECISION)
        row = first + step - 2  # now complete
        stored = above.to(out.dtype.element_ty)
        ok = _made(inside, column, row, first, H)[:, None]
        tl.store(target + row * (W * COUT), stored, mask=ok)
        seen = tl.where(ok, stored.to(tl.float32), 0.0)
        total, squares = _add_sums(total, squares, seen, seen * seen, KEEP)
        above = here
        here = below
        below = tl.zeros([BM, BN], tl.float32)
    _store_sums(sums, total, squares, client, n, COUT, KEEP)


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
    kernels = _all_weights(w + client * (9 * CIN * COUT), n, d.dtype.element_ty, 3, CIN, COUT, BK, True)
    above = tl.zeros([BM, BN], tl.float32)
    here = tl.zeros([BM, BN], tl.float32)
    below = tl.zeros([BM, BN], tl.float32)
    times_y, alone = _no_sums(BM, BN, KEEP)
    if AHEAD:
        coming = _row_of_taps(start, first - 1, inside, column, H, W, COUT)
    for step in range(ROWS + 2):
        row = first + step - 2
        ok = _made(inside, column, row, first, H)[:, None]
        at = place + row * (W * CIN)
        if EXTRA:
            more = tl.load(extra + at, mask=ok, other=0.0)
        if ACTIVE:
            value = tl.load(y + at, mask=ok, other=0.0)
            if KEPT:
                kept = tl.load(z + at, mask=ok, other=0.0)
        if AHEAD:
            taps = coming
            coming = _row_of_taps(start, first + step, inside, column, H, W, COUT)
        else:
            taps = _row_of_taps(start, first + step - 1, inside, column, H, W, COUT)
        above, here, below = _sweep(taps, kernels, above, here, below, PRECISION)
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
            times_y, alone = _add_sums(times_y, alone, above * wide, above, KEEP)
        tl.store(out + at, above.to(out.dtype.element_ty), mask=ok)
        above = here
        here = below
        below = tl.zeros([BM, BN], tl.float32)
    _store_sums(sums, times_y, alone, client, n, CIN, KEEP)


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
    times_y, alone = _no_sums(BM, BN, KEEP)
    kernels = _all_weights(w, n, d.dtype.element_ty, SIZE, CIN, COUT, BK, True)  # the last tap first
    for tile in range(LOOP):
        m = (tl.program_id(0) * LOOP + tile) * BM + tl.arange(0, BM)
        inside = m < PIXELS
        image, row, column = _pixels(m, HO * WO, WO)
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
                                weights = _weights(w, tap, start + k, n, CIN, COUT, True).to(values.dtype)
                                dz = tl.dot(values, weights, dz, input_precision=PRECISION)
            r = 2 * row + parity // 2
            c = 2 * column + parity % 2
            place = base + ((image * H + r) * W + c)[:, None] * CIN + n[None, :]
            first, second = _through_activation(
                dz, y, z, extra, factor + client * CIN, offset + client * CIN, out, place, n,
                (inside & (r < H) & (c < W))[:, None], ACTIVE, KEPT, EXTRA,
            )  # fmt: skip
            times_y, alone = _add_sums(times_y, alone, first, second, KEEP)
    _store_sums(sums, times_y, alone, client, n, CIN, KEEP)


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
        image, row, column = _pixels(m, HO * WO, WO)
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
    _, row, column = _pixels(m, H * W, W)
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
        image, row, column = _pixels(m, HO * WO, WO)
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
        image, row, column = _pixels(m, HO * WO, WO)
        windows = _windows(x, image, row, column, inside, H, W, STRIDE, SIZE, CIN, DEPTH)
        gradient = tl.load(d + m[:, None] * COUT + co[None, :], mask=inside[:, None], other=0.0)
        acc = tl.dot(tl.trans(windows), gradient, acc, input_precision=PRECISION)
    dw += (client * tl.num_programs(0) + tl.program_id(0)) * (SIZE * SIZE * CIN * COUT)
    r = tl.arange(0, DEPTH)
    tl.store(dw + r[:, None] * COUT + co[None, :], acc, mask=(r < SIZE * SIZE * CIN)[:, None])
