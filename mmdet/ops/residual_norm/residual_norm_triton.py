"""Triton kernel for a residual addition followed by layer norm; called by ``residual_norm.py``.

Symbols: R rows (tokens of all images) of C channels, T tokens of an image.
"""
import triton
import triton.language as tl


@triton.jit
def residual_norm_kernel(residual_ptr, branch_ptr, first_ptr, weight_ptr, bias_ptr, total_ptr, normed_ptr, num_tokens,
                         channels, eps, ADD: tl.constexpr, FIRST: tl.constexpr, BLOCK: tl.constexpr):
    """Compute total = residual + branch if ADD, and normed = layer norm of it. Grid: (R,). BLOCK ≥ C, a power of two.

    If FIRST, the first token of each image is replaced by first, (C,), in total and before the norm.
    """
    row = tl.program_id(0)
    channel = tl.arange(0, BLOCK)
    valid = channel < channels
    index = row.to(tl.int64) * channels + channel
    total = tl.load(residual_ptr + index, mask=valid, other=0.0).to(tl.float32)
    if ADD:
        total += tl.load(branch_ptr + index, mask=valid, other=0.0).to(tl.float32)
        if FIRST:
            is_first = row % num_tokens == 0
            first = tl.load(first_ptr + channel, mask=valid & is_first, other=0.0).to(tl.float32)
            total = tl.where(is_first, first, total)
        tl.store(total_ptr + index, total, mask=valid)
    # the row is in registers, so that the variance is that of the differences, which loses no digits
    mean = tl.sum(total, axis=0) / channels
    difference = tl.where(valid, total - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(difference * difference, axis=0) / channels + eps)
    weight = tl.load(weight_ptr + channel, mask=valid, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, mask=valid, other=0.0).to(tl.float32)
    normed = difference * scale * weight + bias
    tl.store(normed_ptr + index, normed.to(normed_ptr.dtype.element_ty), mask=valid)
