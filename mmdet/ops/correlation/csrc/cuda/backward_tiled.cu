// The tiled gradient kernel: on each lattice (kernels.h), for the gradient of input1,
//     result[c, t, u] = sum_{ph, pw} weight[ph, pw, t, u] * other[c, t + ph - centre, u + pw - centre]
// with weight = grad_output and other = input2. The gradient of input2 is the same sum over other = input1 with both
// patch axes reversed (centre becomes patch - 1 - centre) and weights read at the output pixel of the product:
//     weight[ph, pw, t, u] = grad_output[patch - 1 - ph, patch - 1 - pw, t + ph - centre, u + pw - centre].
//
// A block computes kRows x 32 pixels x 64 channels, a thread 8 neighbouring u x 8 channels. The block iterates over the
// patch rows; the rows of `other` it needs are kept in a ring buffer in shared memory, one new row per step, next to
// the weights of kPatch patch columns. A thread multiplies the 23 pixels around its run with a band of weights; the
// weights are stored skewed, so that row k of the band is contiguous for the run. Meanwhile, the values of the next
// step are loaded into registers.
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "kernels.h"

namespace memcnp {

namespace {

constexpr int kPatch = 16;  // patch columns per step
constexpr int kRun = 8;     // neighbouring pixels per thread
constexpr int kRuns = 4;    // runs per block
constexpr int kRows = 4;    // rows per block, one warp each
constexpr int kChannels = 64;
constexpr int kThreads = 32 * kRows;

constexpr int kWidth = kRun * kRuns;
constexpr int kBand = kRun + kPatch - 1;             // pixels of `other` that a run depends on
constexpr int kOtherWidth = 8 * ((kWidth + kPatch - 1 + 7) / 8);
constexpr int kPitch = kChannels + 4;  // floats of a pixel of `other`: eight pixels are in different banks
constexpr int kOtherRow = kOtherWidth * kPitch;
constexpr int kWeightRow = kBand * kWidth;
constexpr int kSharedBytes = kRows * (kOtherRow + kWeightRow) * sizeof(float);

// A warp loads 8 pixels x 4 channels at a time; the same pixels recur after kOtherSlots loads, with other channels.
constexpr int kPixelGroups = kOtherWidth / 8;
constexpr int kOtherSlots = kPixelGroups / 2;
constexpr int kOtherRepeats = kChannels / (2 * kRows);
constexpr int kWeightSlots = kPatch / kRows;
static_assert(kWidth == 32 && kChannels == 8 * 8, "lanes: 4 runs x 8 groups of channels; a warp reads 32 weights");
static_assert(kPixelGroups == 6 && kRows % 2 == 0 && kRows % 3 != 0 && kPatch % kRows == 0, "slots tile the row");

__device__ inline void load4(float* to, const float* from) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}

template <typename T, Input which>
__global__ void __launch_bounds__(kThreads, 3)
    backward_kernel(const T* __restrict__ grad, const T* __restrict__ other, T* __restrict__ result, Lattices g) {
  extern __shared__ float4 shared4[];
  float* ring = reinterpret_cast<float*>(shared4);  // [kRows][kOtherWidth][kPitch], channels fastest
  float* weights = ring + kRows * kOtherRow;        // [kRows][kBand][kWidth]
  constexpr bool kFirst = which == Input::kFirst;
  const int centre_h = kFirst ? g.centre_h : g.patch_h - 1 - g.centre_h;
  const int centre_w = kFirst ? g.centre_w : g.patch_w - 1 - g.centre_w;

  unsigned block = blockIdx.x;
  const auto next = [&block](int count) {
    const int digit = static_cast<int>(block % count);
    block /= count;
    return digit;
  };
  const int c0 = next((g.channels + kChannels - 1) / kChannels) * kChannels;
  const int u0 = next((g.columns() + kWidth - 1) / kWidth) * kWidth;
  const int first_x = next(g.count_w);
  const int t0 = next((g.rows() + kRows - 1) / kRows) * kRows;
  const int first_y = next(g.count_h);
  const int64_t n = block;
  if (first_y + t0 * g.step_h >= g.height || first_x + u0 * g.step_w >= g.width) {
    return;  // this lattice is smaller than the first one and does not reach this tile
  }
  other += (n * g.channels + c0) * g.plane;
  result += (n * g.channels + c0) * g.plane;
  grad += n * g.patch_h * g.patch_w * g.plane;

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;  // a warp computes row t0 + warp
  const int group = lane % 8, run = lane / 8;
  const auto inside_image = [&](int y, int x) { return y >= 0 && y < g.height && x >= 0 && x < g.width; };

  // Rows of `other`: this thread always loads pixel lane % 8 of a group and every fourth channel.
  T fetched[kOtherSlots][kOtherRepeats];
  const auto slot_pixel = [&](int s) { return (warp + kRows * s) % kPixelGroups * 8 + lane % 8; };
  const auto slot_channel = [&](int s) { return (warp + kRows * s) / kPixelGroups * 4 + lane / 8; };
  const auto fetch_other = [&](int row, int pw0) {
    const int y = first_y + (t0 + row - centre_h) * g.step_h;
#pragma unroll
    for (int s = 0; s < kOtherSlots; ++s) {
      const int x = first_x + (u0 + slot_pixel(s) + pw0 - centre_w) * g.step_w;
      const bool inside = inside_image(y, x);
      const int channel = slot_channel(s);
      const T* source = other + (inside ? channel * g.plane + static_cast<int64_t>(y) * g.width + x : 0);
#pragma unroll
      for (int m = 0; m < kOtherRepeats; ++m) {
        const int c = channel + 2 * kRows * m;
        fetched[s][m] = inside && c0 + c < g.channels ? source[2 * kRows * m * g.plane] : T(0.f);
      }
    }
  };
  const auto stage_other = [&](int row) {
    float* target = ring + row % kRows * kOtherRow;
#pragma unroll
    for (int s = 0; s < kOtherSlots; ++s) {
#pragma unroll
      for (int m = 0; m < kOtherRepeats; ++m) {
        target[slot_pixel(s) * kPitch + slot_channel(s) + 2 * kRows * m] = static_cast<float>(fetched[s][m]);
      }
    }
  };

  // Weights of one patch row: a warp loads 32 neighbouring pixels of one image row and patch column at a time.
  T fetched_weights[kRows][kWeightSlots];
  const auto fetch_weights = [&](int ph, int pw0) {
#pragma unroll
    for (int s = 0; s < kWeightSlots; ++s) {
      const int pw = pw0 + warp + kRows * s;
      const int column = u0 + lane + (kFirst ? 0 : pw - centre_w);
      const int x = first_x + column * g.step_w;
      const int64_t cell = kFirst ? static_cast<int64_t>(ph) * g.patch_w + pw
                                  : static_cast<int64_t>(g.patch_h - 1 - ph) * g.patch_w + g.patch_w - 1 - pw;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        const int y = first_y + (t0 + row + (kFirst ? 0 : ph - centre_h)) * g.step_h;
        fetched_weights[row][s] = pw < g.patch_w && inside_image(y, x)
            ? grad[cell * g.plane + static_cast<int64_t>(y) * g.width + x]
            : T(0.f);
      }
    }
  };
  const auto stage_weights = [&] {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
#pragma unroll
      for (int s = 0; s < kWeightSlots; ++s) {
        weights[row * kWeightRow + (warp + kRows * s + lane % kRun) * kWidth + lane] =
            static_cast<float>(fetched_weights[row][s]);
      }
    }
  };

  float sum[kRun][8] = {};  // channels 4 * group + (0..3) and 32 + 4 * group + (0..3)
  for (int pw0 = 0; pw0 < g.patch_w; pw0 += kPatch) {
    for (int row = 0; row < kRows - 1; ++row) {
      fetch_other(row, pw0);
      stage_other(row);
    }
    fetch_other(kRows - 1, pw0);
    fetch_weights(0, pw0);
    for (int ph = 0; ph < g.patch_h; ++ph) {
      stage_other(ph + kRows - 1);
      stage_weights();
      __syncthreads();
      if (ph + 1 < g.patch_h) {
        fetch_other(ph + kRows, pw0);
        fetch_weights(ph + 1, pw0);
      }
      const float* pixels = ring + (ph + warp) % kRows * kOtherRow + run * kRun * kPitch + 4 * group;
      const float* band = weights + warp * kWeightRow + run * kRun;
#pragma unroll
      for (int k = 0; k < kBand; ++k) {
        float a[8], b[kRun];
        load4(a, pixels + k * kPitch);
        load4(a + 4, pixels + k * kPitch + 32);
        load4(b, band + k * kWidth);
        load4(b + 4, band + k * kWidth + 4);
#pragma unroll
        for (int u = 0; u < kRun; ++u) {
          if (k - u >= 0 && k - u < kPatch) {
#pragma unroll
            for (int c = 0; c < 8; ++c) {
              sum[u][c] = fmaf(a[c], b[u], sum[u][c]);
            }
          }
        }
      }
      __syncthreads();
    }
  }

  // Transpose the warp's results in shared memory, so that neighbouring lanes write neighbouring pixels.
  float* transposed = ring + warp * kOtherRow;
#pragma unroll
  for (int u = 0; u < kRun; ++u) {
    float* pixel = transposed + (run * kRun + u) * kPitch + 4 * group;
    *reinterpret_cast<float4*>(pixel) = make_float4(sum[u][0], sum[u][1], sum[u][2], sum[u][3]);
    *reinterpret_cast<float4*>(pixel + 32) = make_float4(sum[u][4], sum[u][5], sum[u][6], sum[u][7]);
  }
  __syncwarp();
  const int y = first_y + (t0 + warp) * g.step_h, x = first_x + (u0 + lane) * g.step_w;
  if (inside_image(y, x)) {
    result += static_cast<int64_t>(y) * g.width + x;
    for (int c = 0; c < kChannels && c0 + c < g.channels; ++c) {
      result[c * g.plane] = static_cast<T>(transposed[lane * kPitch + c]);
    }
  }
}

}  // namespace

template <typename T>
void backward_tiled(
    const T* grad, const T* other, T* result, const Geometry& geometry, Input which, cudaStream_t stream) {
  const Lattices g(geometry);
  const auto tiles = [](int size, int tile) { return static_cast<int64_t>((size + tile - 1) / tile); };
  const int64_t blocks = g.batch * g.count_h * g.count_w * tiles(g.rows(), kRows) * tiles(g.columns(), kWidth) *
      tiles(g.channels, kChannels);
  const auto kernel = which == Input::kFirst ? backward_kernel<T, Input::kFirst> : backward_kernel<T, Input::kSecond>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  kernel<<<static_cast<unsigned>(blocks), kThreads, kSharedBytes, stream>>>(grad, other, result, g);
}

#define MEMCNP_INSTANTIATE(T) \
  template void backward_tiled<T>(const T*, const T*, T*, const Geometry&, Input, cudaStream_t);

MEMCNP_INSTANTIATE(float)
MEMCNP_INSTANTIATE(c10::Half)
MEMCNP_INSTANTIATE(c10::BFloat16)
#undef MEMCNP_INSTANTIATE

}  // namespace memcnp
