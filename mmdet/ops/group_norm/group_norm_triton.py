"""Triton kernels for group norm on channels-last maps; called by ``group_norm.py``.

Symbols: B images, h×w map of P = h·w positions in N chunks of STEPS · BLOCK positions, C channels in G groups.
"""
import triton
import triton.language as tl


@triton.jit
def partial_sums_kernel(x_ptr, sums_ptr, num_positions, num_chunks, channels: tl.constexpr, groups: tl.constexpr,
                        STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """Compute sums[b, n, :, g], the sum and the sum of squares of a chunk of positions. Grid: (N, B)."""
    chunk = tl.program_id(0)
    image = tl.program_id(1)
    channel = tl.arange(0, channels)
    # added position by position; the positions of a block are added once, at the end
    total = tl.zeros((BLOCK, channels), dtype=tl.float32)
    square = tl.zeros((BLOCK, channels), dtype=tl.float32)
    for step in range(STEPS):
        position = (chunk * STEPS + step) * BLOCK + tl.arange(0, BLOCK)
        index = (image.to(tl.int64) * num_positions + position)[:, None] * channels + channel[None, :]
        x = tl.load(x_ptr + index, mask=(position < num_positions)[:, None], other=0.0).to(tl.float32)
        total += x
        square += x * x
    out = sums_ptr + (image * num_chunks + chunk) * 2 * groups + tl.arange(0, groups)
    tl.store(out, tl.sum(tl.reshape(tl.sum(total, axis=0), (groups, channels // groups)), axis=1))
    tl.store(out + groups, tl.sum(tl.reshape(tl.sum(square, axis=0), (groups, channels // groups)), axis=1))


@triton.jit
def normalize_kernel(x_ptr, sums_ptr, weight_ptr, bias_ptr, out_ptr, num_positions, num_chunks, eps,
                     channels: tl.constexpr, groups: tl.constexpr, RELU: tl.constexpr, STEPS: tl.constexpr,
                     BLOCK: tl.constexpr, CHUNKS: tl.constexpr):
    """Compute out = (x − mean)·scale·weight + bias, then ReLU if RELU. Grid: (N, B). CHUNKS ≥ N, a power of two."""
    chunk = tl.program_id(0)
    image = tl.program_id(1)
    # each program adds the partial sums of its image, in a fixed order: a kernel less, and reproducible
    row = tl.arange(0, CHUNKS)
    partial = sums_ptr + (image * num_chunks + row)[:, None] * 2 * groups + tl.arange(0, groups)[None, :]
    exists = (row < num_chunks)[:, None]
    count = num_positions * (channels // groups)
    mean = tl.sum(tl.load(partial, mask=exists, other=0.0), axis=0) / count  # (G,)
    square = tl.sum(tl.load(partial + groups, mask=exists, other=0.0), axis=0) / count
    scale = 1.0 / tl.sqrt(tl.maximum(square - mean * mean, 0.0) + eps)
    mean = tl.reshape(tl.broadcast_to(mean[:, None], (groups, channels // groups)), (channels,))
    scale = tl.reshape(tl.broadcast_to(scale[:, None], (groups, channels // groups)), (channels,))
    channel = tl.arange(0, channels)
    gain = scale * tl.load(weight_ptr + channel).to(tl.float32)
    shift = tl.load(bias_ptr + channel).to(tl.float32) - mean * gain
    for step in range(STEPS):
        position = (chunk * STEPS + step) * BLOCK + tl.arange(0, BLOCK)
        valid = (position < num_positions)[:, None]
        index = (image.to(tl.int64) * num_positions + position)[:, None] * channels + channel[None, :]
        x = tl.load(x_ptr + index, mask=valid, other=0.0).to(tl.float32)
        y = x * gain[None, :] + shift[None, :]
        if RELU:
            y = tl.maximum(y, 0.0)
        tl.store(out_ptr + index, y.to(out_ptr.dtype.element_ty), mask=valid)
