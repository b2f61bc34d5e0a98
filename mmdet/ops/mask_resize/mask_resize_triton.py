"""Triton kernel for resized and thresholded masks; called by ``mask_resize.py``.

Symbols: n masks, h×w probabilities, H×W output, of which resized_height × resized_width is the resized mask.
"""
import triton
import triton.language as tl


@triton.jit
def mask_resize_kernel(masks_ptr, out_ptr, scale, height, width, resized_height, resized_width, out_height, out_width,
                       ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Compute out[n, y, x] = masks resized bilinearly > ½, 0 outside of the resized mask.

    Grid: (W / COLUMNS, H / ROWS, n). ``scale``: input pixels per output pixel.
    """
    mask = tl.program_id(2).to(tl.int64)
    y = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    x = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    # centre of the output pixel in coordinates of the input, align_corners=False; clamped to the first pixel's
    source_y = tl.maximum(scale * (y + 0.5) - 0.5, 0.0)
    source_x = tl.maximum(scale * (x + 0.5) - 0.5, 0.0)
    y0 = tl.minimum(source_y.to(tl.int32), height - 1)
    x0 = tl.minimum(source_x.to(tl.int32), width - 1)
    fy = (source_y - y0)[:, None]
    fx = (source_x - x0)[None, :]
    y1 = tl.minimum(y0 + 1, height - 1)
    x1 = tl.minimum(x0 + 1, width - 1)
    valid = (y < resized_height)[:, None] & (x < resized_width)[None, :]
    base = masks_ptr + mask * height * width
    above = base + y0[:, None] * width
    below = base + y1[:, None] * width
    value = (1 - fy) * ((1 - fx) * tl.load(above + x0[None, :], mask=valid, other=0.0)
                        + fx * tl.load(above + x1[None, :], mask=valid, other=0.0))
    value += fy * ((1 - fx) * tl.load(below + x0[None, :], mask=valid, other=0.0)
                   + fx * tl.load(below + x1[None, :], mask=valid, other=0.0))
    out = out_ptr + mask * out_height * out_width + y[:, None] * out_width + x[None, :]
    tl.store(out, (value > 0.5).to(tl.int8), mask=(y < out_height)[:, None] & (x < out_width)[None, :])
