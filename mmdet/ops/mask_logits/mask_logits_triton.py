"""Triton kernel for mask logits; called by ``mask_logits.py``.

Symbols: B images, C channels, h×w coarse map, D detections, F factor of the upsampling.
"""
import triton
import triton.language as tl


@triton.jit
def mask_logits_kernel(map_ptr, coefficients_ptr, out_ptr, height, width, num_detections, channels: tl.constexpr,
                       FACTOR: tl.constexpr, DETECTIONS: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr):
    """Compute out[b, d, y, x] = Σ_c coefficients[b, d, c] · ReLU(map upsampled bilinearly by FACTOR)[b, c, y, x].

    Grid: (F·h · (w + 1) / BLOCK, B). A program computes the pixels between the centres of two neighbouring coarse
    pixels, for BLOCK such pairs in upsampled rows: FACTOR pixels of DETECTIONS ≥ D detections each, which read the
    same coarse pixels. CHUNK channels at a time.
    """
    image = tl.program_id(1)
    fine_width = width * FACTOR
    pair = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = pair // (width + 1)
    left = pair % (width + 1) - 1  # left coarse pixel; −1: left of the first centre, where the map is constant
    valid = row < height * FACTOR
    # centre of the upsampled pixel in coordinates of the coarse map, align_corners=False; clamped to the first pixel's
    y = tl.maximum((row + 0.5) / FACTOR - 0.5, 0.0)
    y0 = y.to(tl.int32)
    fy = (y - y0)[:, None]
    y1 = tl.minimum(y0 + 1, height - 1)
    x0 = tl.maximum(left, 0)
    x1 = tl.minimum(left + 1, width - 1)
    base = map_ptr + image.to(tl.int64) * height * width * channels
    p00 = ((y0 * width + x0) * channels)[:, None]
    p01 = ((y0 * width + x1) * channels)[:, None]
    p10 = ((y1 * width + x0) * channels)[:, None]
    p11 = ((y1 * width + x1) * channels)[:, None]
    detection = tl.arange(0, DETECTIONS)
    # FACTOR is 2 or 4
    total0 = tl.zeros((BLOCK, DETECTIONS), dtype=tl.float32)
    total1 = tl.zeros((BLOCK, DETECTIONS), dtype=tl.float32)
    total2 = tl.zeros((BLOCK, DETECTIONS), dtype=tl.float32)
    total3 = tl.zeros((BLOCK, DETECTIONS), dtype=tl.float32)
    for start in range(0, channels, CHUNK):
        channel = start + tl.arange(0, CHUNK)
        inside = valid[:, None] & (channel < channels)[None, :]
        v00 = tl.load(base + p00 + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        v01 = tl.load(base + p01 + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        v10 = tl.load(base + p10 + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        v11 = tl.load(base + p11 + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        begin = (1 - fy) * v00 + fy * v10
        step = ((1 - fy) * v01 + fy * v11 - begin) / FACTOR
        weight = tl.load(coefficients_ptr + (image * num_detections + detection)[None, :] * channels + channel[:, None],
                         mask=(detection < num_detections)[None, :] & (channel < channels)[:, None], other=0.0)
        dtype = map_ptr.dtype.element_ty
        total0 += tl.dot(tl.maximum(begin + 0.5 * step, 0.0).to(dtype), weight)
        total1 += tl.dot(tl.maximum(begin + 1.5 * step, 0.0).to(dtype), weight)
        if FACTOR == 4:
            total2 += tl.dot(tl.maximum(begin + 2.5 * step, 0.0).to(dtype), weight)
            total3 += tl.dot(tl.maximum(begin + 3.5 * step, 0.0).to(dtype), weight)
    # the first pixel of a pair is half of FACTOR to the right of the left coarse pixel's first one
    x = left * FACTOR + FACTOR // 2
    fine_pixels = height * FACTOR * fine_width
    out = (out_ptr + (image.to(tl.int64) * num_detections + detection)[None, :] * fine_pixels
           + (row * fine_width + x)[:, None])
    stored = valid[:, None] & (detection < num_detections)[None, :]
    first = (left >= 0)[:, None]  # the pixels left of the first centre are only the last half of a pair
    last = (left < width - 1)[:, None]  # and those right of the last centre only the first half
    if FACTOR == 4:
        tl.store(out, total0, mask=stored & first)
        tl.store(out + 1, total1, mask=stored & first)
        tl.store(out + 2, total2, mask=stored & last)
        tl.store(out + 3, total3, mask=stored & last)
    else:
        tl.store(out, total0, mask=stored & first)
        tl.store(out + 1, total1, mask=stored & last)
