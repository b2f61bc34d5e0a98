"""Triton kernels for group norm on channels-last maps; called by ``group_norm.py``.

Symbols: B images, h×w map of P = h·w positions, C channels in G groups.
"""
import triton
import triton.language as tl


@triton.jit
def partial_sums_kernel(x_ptr, sums_ptr, num_positions, num_blocks, channels: tl.constexpr, groups: tl.constexpr,
                        BLOCK: tl.constexpr):
    """Compute sums[b, block, :, g], the sum and the sum of squares of a block of positions. Grid: (P / BLOCK, B)."""
    block = tl.program_id(0)
    image = tl.program_id(1)
    position = block * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, channels)
    index = (image.to(tl.int64) * num_positions + position)[:, None] * channels + channel[None, :]
    x = tl.load(x_ptr + index, mask=(position < num_positions)[:, None], other=0.0).to(tl.float32)
    total = tl.sum(tl.reshape(tl.sum(x, axis=0), (groups, channels // groups)), axis=1)
    square = tl.sum(tl.reshape(tl.sum(x * x, axis=0), (groups, channels // groups)), axis=1)
    out = sums_ptr + (image * num_blocks + block) * 2 * groups + tl.arange(0, groups)
    tl.store(out, total)
    tl.store(out + groups, square)


@triton.jit
def normalize_kernel(x_ptr, mean_ptr, scale_ptr, weight_ptr, bias_ptr, out_ptr, num_positions, channels: tl.constexpr,
                     groups: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr):
    """Compute out = (x − mean)·scale·weight + bias, then ReLU if RELU. Grid: (P / BLOCK, B)."""
    image = tl.program_id(1)
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, channels)
    group = image * groups + channel // (channels // groups)
    mean = tl.load(mean_ptr + group)
    gain = tl.load(scale_ptr + group) * tl.load(weight_ptr + channel).to(tl.float32)
    shift = tl.load(bias_ptr + channel).to(tl.float32) - mean * gain
    index = (image.to(tl.int64) * num_positions + position)[:, None] * channels + channel[None, :]
    valid = (position < num_positions)[:, None]
    x = tl.load(x_ptr + index, mask=valid, other=0.0).to(tl.float32)
    y = x * gain[None, :] + shift[None, :]
    if RELU:
        y = tl.maximum(y, 0.0)
    tl.store(out_ptr + index, y.to(out_ptr.dtype.element_ty), mask=valid)
