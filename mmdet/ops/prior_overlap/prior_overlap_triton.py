"""Triton kernel for the highest IoU with an earlier box; called by ``prior_overlap.py``.

Symbols: R sets of n boxes x1, y1, x2, y2.
"""
import triton
import triton.language as tl


@triton.jit
def prior_overlap_kernel(boxes_ptr, out_ptr, number, BLOCK: tl.constexpr, SLICE: tl.constexpr, SLICES: tl.constexpr):
    """Compute out[r, j] = max(0, max_{i < j} IoU(i, j)), NaN if one is NaN. Grid: (R, n / BLOCK).

    SLICES = n / SLICE, rounded up. The operations and their order are those of PyTorch's version.
    """
    boxes_ptr += tl.program_id(0).to(tl.int64) * number * 4
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    own = boxes_ptr + 4 * j
    x1 = tl.load(own, mask=j < number, other=0.0)
    y1 = tl.load(own + 1, mask=j < number, other=0.0)
    x2 = tl.load(own + 2, mask=j < number, other=0.0)
    y2 = tl.load(own + 3, mask=j < number, other=0.0)
    area = (x2 - x1) * (y2 - y1)
    worst = tl.zeros((BLOCK,), dtype=tl.float32)
    undefined = tl.zeros((BLOCK,), dtype=tl.int32)
    for part in range(SLICES):
        i = part * SLICE + tl.arange(0, SLICE)
        other = boxes_ptr + 4 * i
        before_x1 = tl.load(other, mask=i < number, other=0.0)
        before_y1 = tl.load(other + 1, mask=i < number, other=0.0)
        before_x2 = tl.load(other + 2, mask=i < number, other=0.0)
        before_y2 = tl.load(other + 3, mask=i < number, other=0.0)
        before_area = (before_x2 - before_x1) * (before_y2 - before_y1)
        width = tl.minimum(before_x2[:, None], x2[None, :]) - tl.maximum(before_x1[:, None], x1[None, :])
        height = tl.minimum(before_y2[:, None], y2[None, :]) - tl.maximum(before_y1[:, None], y1[None, :])
        overlap = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
        iou = tl.div_rn(overlap, before_area[:, None] + area[None, :] - overlap)
        earlier = i[:, None] < j[None, :]
        defined = iou == iou
        # the maximum does not propagate NaN
        worst = tl.maximum(worst, tl.max(tl.where(earlier & defined, iou, 0.0), axis=0))
        undefined = tl.maximum(undefined, tl.max((earlier & (defined == 0)).to(tl.int32), axis=0))
    worst = tl.where(undefined > 0, float('nan'), worst)
    tl.store(out_ptr + tl.program_id(0).to(tl.int64) * number + j, worst, mask=j < number)
