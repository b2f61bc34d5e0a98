"""Triton kernel for mask logits; called by ``mask_logits.py``.

Symbols: B images, C channels, h×w coarse map, D detections.
"""
import triton
import triton.language as tl


@triton.jit
def mask_logits_kernel(map_ptr, coefficients_ptr, out_ptr, height, width, num_detections, channels: tl.constexpr,
                       FACTOR: tl.constexpr, DETECTIONS: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr):
    """Compute out[b, d, y, x] = Σ_c coefficients[b, d, c] · ReLU(map upsampled bilinearly by FACTOR)[b, c, y, x].

    Grid: (upsampled pixels / BLOCK, B). A program computes BLOCK pixels of DETECTIONS ≥ D detections, CHUNK channels at
    a time.
    """
    image = tl.program_id(1)
    fine_width = width * FACTOR
    num_pixels = height * FACTOR * fine_width
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = pixel < num_pixels
    # centre of the upsampled pixel in coordinates of the coarse map, align_corners=False; clamped to the first pixel's
    y = tl.maximum((pixel // fine_width + 0.5) / FACTOR - 0.5, 0.0)
    x = tl.maximum((pixel % fine_width + 0.5) / FACTOR - 0.5, 0.0)
    y0 = y.to(tl.int32)
    x0 = x.to(tl.int32)
    fy = (y - y0)[:, None]
    fx = (x - x0)[:, None]
    y1 = tl.minimum(y0 + 1, height - 1)
    x1 = tl.minimum(x0 + 1, width - 1)
    base = map_ptr + image.to(tl.int64) * height * width * channels
    p00 = ((y0 * width + x0) * channels)[:, None]
    p01 = ((y0 * width + x1) * channels)[:, None]
    p10 = ((y1 * width + x0) * channels)[:, None]
    p11 = ((y1 * width + x1) * channels)[:, None]
    detection = tl.arange(0, DETECTIONS)
    total = tl.zeros((BLOCK, DETECTIONS), dtype=tl.float32)
    for start in range(0, channels, CHUNK):
        channel = start + tl.arange(0, CHUNK)
        inside = valid[:, None] & (channel < channels)[None, :]
        v00 = tl.load(base + p00 + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        v01 = tl.load(base + p01 + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        v10 = tl.load(base + p10 + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        v11 = tl.load(base + p11 + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        value = (1 - fy) * ((1 - fx) * v00 + fx * v01) + fy * ((1 - fx) * v10 + fx * v11)
        value = tl.maximum(value, 0.0).to(map_ptr.dtype.element_ty)
        weight = tl.load(coefficients_ptr + (image * num_detections + detection)[None, :] * channels + channel[:, None],
                         mask=(detection < num_detections)[None, :] & (channel < channels)[:, None], other=0.0)
        total += tl.dot(value, weight)
    out = out_ptr + (image.to(tl.int64) * num_detections + detection)[None, :] * num_pixels + pixel[:, None]
    tl.store(out, total, mask=valid[:, None] & (detection < num_detections)[None, :])
