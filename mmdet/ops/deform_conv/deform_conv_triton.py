"""Triton kernels for the 3×3 deformable convolution v1: sampling (im2col) and its two gradients.

Called by ``deform_conv.py``. The map is channels-last, so that the channels of each neighbour of a sampling position
are contiguous in memory.

Symbols: B images, C channels, G offset groups, h×w map, P = B·h·w positions, 9 taps. Columns are (P, 9·C).
"""
import triton
import triton.language as tl


@triton.jit
def _neighbours(offset_ptr, position, valid, tap, group, num_groups, height, width):
    """Compute image index, upper left neighbour y0, x0 and fractions of the sampling positions p + tap + (dy, dx).

    Positions further than one pixel outside the map, whose samples are zero, are clamped.
    """
    plane = height * width
    image = position // plane
    pixel = position % plane
    base = offset_ptr + (image * (num_groups * 18) + group * 18 + 2 * tap) * plane + pixel
    y = tl.load(base, mask=valid, other=0.0).to(tl.float32) + (pixel // width + tap // 3 - 1)
    x = tl.load(base + plane, mask=valid, other=0.0).to(tl.float32) + (pixel % width + tap % 3 - 1)
    # positions far outside have no neighbour inside the map: clamp them so that they fit into int32
    y = tl.minimum(tl.maximum(y, -2.0), height + 1.0)
    x = tl.minimum(tl.maximum(x, -2.0), width + 1.0)
    y0 = tl.floor(y)
    x0 = tl.floor(x)
    return image, y0.to(tl.int32), x0.to(tl.int32), y - y0, x - x0


@triton.jit
def _corner(image, y, x, valid, height, width):
    """Compute the index of a neighbour among the B·h·w pixels, and whether it lies inside the map."""
    exists = valid & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return (image * height + y) * width + x, exists


@triton.jit
def sample_kernel(x_ptr, offset_ptr, columns_ptr, num_positions, height, width, num_groups, channels: tl.constexpr,
                  group_channels: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr):
    """Compute columns[p, tap, c], the bilinear sample of x at the offset position. Grid: (P / BLOCK, 9, G)."""
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tap = tl.program_id(1)
    group = tl.program_id(2)
    valid = position < num_positions
    image, y, x, fy, fx = _neighbours(offset_ptr, position, valid, tap, group, num_groups, height, width)
    p00, e00 = _corner(image, y, x, valid, height, width)
    p01, e01 = _corner(image, y, x + 1, valid, height, width)
    p10, e10 = _corner(image, y + 1, x, valid, height, width)
    p11, e11 = _corner(image, y + 1, x + 1, valid, height, width)
    w00 = ((1 - fy) * (1 - fx))[:, None]
    w01 = ((1 - fy) * fx)[:, None]
    w10 = (fy * (1 - fx))[:, None]
    w11 = (fy * fx)[:, None]
    for start in range(0, group_channels, CHUNK):
        channel = start + tl.arange(0, CHUNK)
        inside = (channel < group_channels)[None, :]
        channel = (group * group_channels + channel)[None, :]
        v00 = tl.load(x_ptr + p00.to(tl.int64)[:, None] * channels + channel, mask=e00[:, None] & inside, other=0.0)
        v01 = tl.load(x_ptr + p01.to(tl.int64)[:, None] * channels + channel, mask=e01[:, None] & inside, other=0.0)
        v10 = tl.load(x_ptr + p10.to(tl.int64)[:, None] * channels + channel, mask=e10[:, None] & inside, other=0.0)
        v11 = tl.load(x_ptr + p11.to(tl.int64)[:, None] * channels + channel, mask=e11[:, None] & inside, other=0.0)
        value = (w00 * v00.to(tl.float32) + w01 * v01.to(tl.float32) + w10 * v10.to(tl.float32)
                 + w11 * v11.to(tl.float32))
        out = columns_ptr + (position.to(tl.int64) * 9 + tap)[:, None] * channels + channel
        tl.store(out, value.to(columns_ptr.dtype.element_ty), mask=valid[:, None] & inside)


@triton.jit
def sample_backward_kernel(x_ptr, offset_ptr, grad_columns_ptr, grad_x_ptr, grad_offset_ptr, num_positions, height,
                           width, num_groups, channels: tl.constexpr, group_channels: tl.constexpr, BLOCK: tl.constexpr,
                           CHUNK: tl.constexpr):
    """Compute the gradients of x (float32, accumulated with atomic additions) and of the offsets from the columns'.

    Grid: (P / BLOCK, 9, G).
    """
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tap = tl.program_id(1)
    group = tl.program_id(2)
    valid = position < num_positions
    image, y, x, fy, fx = _neighbours(offset_ptr, position, valid, tap, group, num_groups, height, width)
    p00, e00 = _corner(image, y, x, valid, height, width)
    p01, e01 = _corner(image, y, x + 1, valid, height, width)
    p10, e10 = _corner(image, y + 1, x, valid, height, width)
    p11, e11 = _corner(image, y + 1, x + 1, valid, height, width)
    w00 = ((1 - fy) * (1 - fx))[:, None]
    w01 = ((1 - fy) * fx)[:, None]
    w10 = (fy * (1 - fx))[:, None]
    w11 = (fy * fx)[:, None]
    grad_y = tl.zeros((BLOCK,), dtype=tl.float32)
    grad_x = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, group_channels, CHUNK):
        channel = start + tl.arange(0, CHUNK)
        inside = (channel < group_channels)[None, :]
        channel = (group * group_channels + channel)[None, :]
        a00 = p00.to(tl.int64)[:, None] * channels + channel
        a01 = p01.to(tl.int64)[:, None] * channels + channel
        a10 = p10.to(tl.int64)[:, None] * channels + channel
        a11 = p11.to(tl.int64)[:, None] * channels + channel
        m00 = e00[:, None] & inside
        m01 = e01[:, None] & inside
        m10 = e10[:, None] & inside
        m11 = e11[:, None] & inside
        grad = tl.load(grad_columns_ptr + (position.to(tl.int64) * 9 + tap)[:, None] * channels + channel,
                       mask=valid[:, None] & inside, other=0.0).to(tl.float32)
        v00 = tl.load(x_ptr + a00, mask=m00, other=0.0).to(tl.float32)
        v01 = tl.load(x_ptr + a01, mask=m01, other=0.0).to(tl.float32)
        v10 = tl.load(x_ptr + a10, mask=m10, other=0.0).to(tl.float32)
        v11 = tl.load(x_ptr + a11, mask=m11, other=0.0).to(tl.float32)
        grad_y += tl.sum(grad * ((1 - fx)[:, None] * (v10 - v00) + fx[:, None] * (v11 - v01)), axis=1)
        grad_x += tl.sum(grad * ((1 - fy)[:, None] * (v01 - v00) + fy[:, None] * (v11 - v10)), axis=1)
        tl.atomic_add(grad_x_ptr + a00, w00 * grad, mask=m00, sem='relaxed')
        tl.atomic_add(grad_x_ptr + a01, w01 * grad, mask=m01, sem='relaxed')
        tl.atomic_add(grad_x_ptr + a10, w10 * grad, mask=m10, sem='relaxed')
        tl.atomic_add(grad_x_ptr + a11, w11 * grad, mask=m11, sem='relaxed')
    plane = height * width
    base = grad_offset_ptr + (image * (num_groups * 18) + group * 18 + 2 * tap) * plane + position % plane
    tl.store(base, grad_y, mask=valid)
    tl.store(base + plane, grad_x, mask=valid)
