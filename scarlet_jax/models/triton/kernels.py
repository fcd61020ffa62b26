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
    for tap in tl.static_range(TAPS):
        ok = inside & _inside(row * STRIDE, column * STRIDE, tap // SIZE - SIZE // 2, tap % SIZE - SIZE // 2, H, W)
        shift = ((tap // SIZE - SIZE // 2) * W + tap % SIZE - SIZE // 2) * DEPTH
        if BK == DEPTH:
            taps = tl.load(center + shift, mask=ok[:, None], other=0.0)
            acc = tl.dot(taps, kernels[tap], acc, input_precision=PRECISION)
        else:
            for first in range(0, DEPTH, BK):
                taps = tl.load(center + shift + first, mask=ok[:, None], other=0.0)
                weights = _weights(w, TAPS - 1 - tap if TURNED else tap, first + k, n, CIN, COUT, TURNED)
                acc = tl.dot(taps, weights.to(taps.dtype), acc, input_precision=PRECISION)
    return acc


@triton.jit
def _all_weights(
    w, n, dtype: tl.constexpr, SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BK: tl.constexpr,
    TURNED: tl.constexpr,
):  # fmt: skip
    """Weights of all taps, where they are kept for all tiles of a program; nothing otherwise."""
    TAPS: tl.constexpr = SIZE * SIZE
    kernels = ()
    if BK == (COUT if TURNED else CIN):
        k = tl.arange(0, BK)
        for tap in tl.static_range(TAPS):
            weights = _weights(w, TAPS - 1 - tap if TURNED else tap, k, n, CIN, COUT, TURNED)
            kernels = kernels + (weights.to(dtype),)
    return kernels


@triton.jit
def forward(
    x, w, out, sums,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    LOOP: tl.constexpr, PRECISION: tl.constexpr,
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
    total = tl.zeros([BN], tl.float32)
    squares = tl.zeros([BN], tl.float32)
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
        total += tl.sum(seen, 0)
        squares += tl.sum(seen * seen, 0)
    at = sums + (client * tl.num_programs(0) + tl.program_id(0)) * (2 * COUT) + n
    tl.store(at, total)
    tl.store(at + COUT, squares)


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
    LOOP: tl.constexpr, PRECISION: tl.constexpr,
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
    total = tl.zeros([BN], tl.float32)
    squares = tl.zeros([BN], tl.float32)
    for tile in range(LOOP):
        m = (tl.program_id(0) * LOOP + tile) * BM + tl.arange(0, BM)
        inside = m < PIXELS
        image, row, column = _pixels(m, HO * WO, WO)
        windows = _windows(x, image, row, column, inside, H, W, STRIDE, SIZE, CIN, DEPTH)
        stored = tl.dot(windows, kernel, input_precision=PRECISION).to(out.dtype.element_ty)
        tl.store(out + m[:, None] * COUT + n[None, :], stored, mask=inside[:, None])
        seen = stored.to(tl.float32)
        total += tl.sum(seen, 0)
        squares += tl.sum(seen * seen, 0)
    at = sums + (client * tl.num_programs(0) + tl.program_id(0)) * (2 * COUT) + n
    tl.store(at, total)
    tl.store(at + COUT, squares)


@triton.jit
def _through_activation(
    dz, y, z, extra, factor, offset, out, place, n, inside, ACTIVE: tl.constexpr, KEPT: tl.constexpr, EXTRA: tl.constexpr,
):  # fmt: skip
    """Store what passes through the ReLU of one tile, and return its sums f32[BN]: times y, and by itself."""
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
        return tl.sum(dz * value, 0), tl.sum(dz, 0)
    tl.store(out + place, dz.to(out.dtype.element_ty), mask=inside)
    return tl.sum(dz, 0), tl.sum(dz, 0)


@triton.jit
def input_gradient(
    d, w, y, z, extra, factor, offset, out, sums,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    LOOP: tl.constexpr, PRECISION: tl.constexpr, ACTIVE: tl.constexpr, KEPT: tl.constexpr, EXTRA: tl.constexpr,
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
    times_y = tl.zeros([BN], tl.float32)
    alone = tl.zeros([BN], tl.float32)
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
        times_y += first
        alone += second
    at = sums + (client * tl.num_programs(0) + tl.program_id(0)) * (2 * CIN) + n
    tl.store(at, times_y)
    tl.store(at + CIN, alone)


@triton.jit
def _dot_all(
    acc, d, center, w, tap, ok, n,
    CIN: tl.constexpr, COUT: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """acc + d x turned weights of one tap, over all COUT channels."""
    k = tl.arange(0, BK)
    for first in range(0, COUT, BK):
        values = tl.load(d + center[:, None] + first + k[None, :], mask=ok[:, None], other=0.0)
        weights = _weights(w, tap, first + k, n, CIN, COUT, True)
        acc = tl.dot(values, weights.to(values.dtype), acc, input_precision=PRECISION)
    return acc


@triton.jit
def input_gradient_halved(
    d, w, y, z, extra, factor, offset, out, sums,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr,
    SIZE: tl.constexpr, CIN: tl.constexpr, COUT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    LOOP: tl.constexpr, PRECISION: tl.constexpr, ACTIVE: tl.constexpr, KEPT: tl.constexpr, EXTRA: tl.constexpr,
):  # fmt: skip
    """`input_gradient` for stride 2: of a tile of out's pixels, the four input pixels that belong to each.

    An input pixel of even row and column meets one tap, of odd row and column four, others two; no tap is masked away.
    """
    PIXELS: tl.constexpr = BATCH * HO * WO
    client = tl.program_id(1).to(tl.int64)
    n = tl.program_id(2) * BN + tl.arange(0, BN)
    d += client * (PIXELS * COUT)
    w += client * (SIZE * SIZE * CIN * COUT)
    base = client * (BATCH * H * W * CIN)
    times_y = tl.zeros([BN], tl.float32)
    alone = tl.zeros([BN], tl.float32)
    for tile in range(LOOP):
        m = (tl.program_id(0) * LOOP + tile) * BM + tl.arange(0, BM)
        inside = m < PIXELS
        image, row, column = _pixels(m, HO * WO, WO)
        for parity in tl.static_range(4):
            dz = tl.zeros([BM, BN], tl.float32)
            if SIZE == 1:
                if parity == 0:
                    dz = _dot_all(dz, d, m * COUT, w, 0, inside, n, CIN, COUT, BK, PRECISION)
            else:
                for down in tl.static_range(parity // 2 + 1):
                    for right in tl.static_range(parity % 2 + 1):
                        ok = inside & (row + down < HO) & (column + right < WO)
                        # An even row meets tap 1; an odd one tap 2 of its own output and tap 0 of the next.
                        tap = (1 + parity // 2 - 2 * down) * 3 + 1 + parity % 2 - 2 * right
                        dz = _dot_all(
                            dz, d, (m + down * WO + right) * COUT, w, tap, ok, n, CIN, COUT, BK, PRECISION
                        )
            r = 2 * row + parity // 2
            c = 2 * column + parity % 2
            place = base + ((image * H + r) * W + c)[:, None] * CIN + n[None, :]
            first, second = _through_activation(
                dz, y, z, extra, factor + client * CIN, offset + client * CIN, out, place, n,
                (inside & (r < H) & (c < W))[:, None], ACTIVE, KEPT, EXTRA,
            )  # fmt: skip
            times_y += first
            alone += second
    at = sums + (client * tl.num_programs(0) + tl.program_id(0)) * (2 * CIN) + n
    tl.store(at, times_y)
    tl.store(at + CIN, alone)


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
