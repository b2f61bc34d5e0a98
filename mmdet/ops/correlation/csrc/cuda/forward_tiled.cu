// The tiled forward kernel: on each lattice (kernels.h) the output is a banded matrix product,
//     out[ph, pw, t, u] = sum_c in1[c, t, u] * in2[c, t + ph - centre, u + pw - centre].
//
// A block computes kRows x 16 pixels x 16 x 16 patch cells, a thread 8 neighbouring u x 16 pw for one (t, ph): per
// channel it reads 8 + 24 floats from shared memory for 128 multiply-adds. kChannels channels at a time are staged in
// shared memory as float32, while the next ones are loaded into registers.
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "kernels.h"

namespace memcnp {

namespace {

constexpr int kPatch = 16;    // patch cells per block along each axis, and per thread along pw
constexpr int kRun = 8;       // neighbouring pixels per thread
constexpr int kRuns = 2;      // runs per block
constexpr int kRows = 8;      // rows per block
constexpr int kChannels = 8;  // channels per stage
constexpr int kThreads = kPatch * kRuns * kRows;
constexpr int kWarps = kThreads / 32;

constexpr int kWidth1 = kRun * kRuns;
constexpr int kWidth2 = kWidth1 + kPatch - 1, kHeight2 = kRows + kPatch - 1;
constexpr int kPitch2 = 36;  // an odd number of 16-byte units: eight rows read at once are in different banks
constexpr int kSize1 = kRows * kWidth1;
constexpr int kSlab = kSize1 + kHeight2 * kPitch2;  // floats of one staged channel
constexpr int kPixels = kSize1 + kHeight2 * kWidth2;
constexpr int kSlots = (kPixels + kThreads - 1) / kThreads;
constexpr int kPitchOut = kWidth1 + 4;
constexpr int kSharedBytes = 2 * kChannels * kSlab * sizeof(float);
static_assert(kPitch2 >= kWidth2 + 1 && kPitch2 % 8 == 4, "rows of the second tile are read in 16-byte units");
static_assert(kWarps * kPatch * kPitchOut * static_cast<int>(sizeof(float)) <= kSharedBytes, "results are staged too");
static_assert(kWidth1 == 16 && 2 * kPatch == 32, "a warp computes 16 patch rows of 16 pixels");

__device__ inline void load4(float* to, const float* from) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* __restrict__ in1, const T* __restrict__ in2, T* __restrict__ out, Lattices g) {
  extern __shared__ float4 shared4[];
  float* shared = reinterpret_cast<float*>(shared4);

  unsigned block = blockIdx.x;
  const auto next = [&block](int count) {
    const int digit = static_cast<int>(block % count);
    block /= count;
    return digit;
  };
  const int u0 = next((g.columns() + kWidth1 - 1) / kWidth1) * kWidth1;
  const int first_x = next(g.count_w);
  const int t0 = next((g.rows() + kRows - 1) / kRows) * kRows;
  const int first_y = next(g.count_h);
  const int pw0 = next((g.patch_w + kPatch - 1) / kPatch) * kPatch;
  const int ph0 = next((g.patch_h + kPatch - 1) / kPatch) * kPatch;
  const int64_t n = block;
  if (first_y + t0 * g.step_h >= g.height || first_x + u0 * g.step_w >= g.width) {
    return;  // this lattice is smaller than the first one and does not reach this tile
  }
  in1 += n * g.channels * g.plane;
  in2 += n * g.channels * g.plane;

  // The pixels of the two tiles that this thread loads, the same for every channel; null outside the image.
  const T* source[kSlots];
  int target[kSlots];
#pragma unroll
  for (int s = 0; s < kSlots; ++s) {
    const int pixel = static_cast<int>(threadIdx.x) + s * kThreads;
    int row, column;
    const T* input;
    if (pixel < kSize1) {
      row = pixel / kWidth1, column = pixel % kWidth1, input = in1;
      target[s] = pixel;
      row += t0, column += u0;
    } else {
      const int rest = pixel - kSize1;
      row = rest / kWidth2, column = rest % kWidth2, input = in2;
      target[s] = rest < kHeight2 * kWidth2 ? kSize1 + row * kPitch2 + column : -1;
      row += t0 + ph0 - g.centre_h, column += u0 + pw0 - g.centre_w;
    }
    const int y = first_y + row * g.step_h, x = first_x + column * g.step_w;
    const bool inside = row >= 0 && column >= 0 && y < g.height && x < g.width && target[s] >= 0;
    source[s] = inside ? input + y * g.width + x : nullptr;
  }

  T fetched[kSlots][kChannels];
  const auto fetch = [&](int c0) {
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
#pragma unroll
      for (int k = 0; k < kChannels; ++k) {
        fetched[s][k] = source[s] != nullptr && c0 + k < g.channels ? source[s][(c0 + k) * g.plane] : T(0.f);
      }
    }
  };
  const auto stage = [&](float* buffer) {
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
      if (target[s] >= 0) {
#pragma unroll
        for (int k = 0; k < kChannels; ++k) {
          buffer[k * kSlab + target[s]] = static_cast<float>(fetched[s][k]);
        }
      }
    }
  };

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;  // a warp computes row t0 + warp
  const int ph = lane % kPatch, run = lane / kPatch;
  const int offset1 = warp * kWidth1 + run * kRun;
  const int offset2 = kSize1 + (warp + ph) * kPitch2 + run * kRun;
  float sum[kPatch][kRun] = {};
  float* buffer = shared;
  float* other_buffer = shared + kChannels * kSlab;
  fetch(0);
  stage(buffer);
  __syncthreads();
  for (int c0 = 0; c0 < g.channels; c0 += kChannels) {
    const bool more = c0 + kChannels < g.channels;
    if (more) {
      fetch(c0 + kChannels);
    }
#pragma unroll
    for (int k = 0; k < kChannels; ++k) {
      float a[kRun], b[kRun + kPatch];
#pragma unroll
      for (int v = 0; v < kRun; v += 4) {
        load4(a + v, buffer + k * kSlab + offset1 + v);
      }
#pragma unroll
      for (int v = 0; v < kRun + kPatch; v += 4) {
        load4(b + v, buffer + k * kSlab + offset2 + v);
      }
#pragma unroll
      for (int p = 0; p < kPatch; ++p) {
#pragma unroll
        for (int u = 0; u < kRun; ++u) {
          sum[p][u] = fmaf(a[u], b[u + p], sum[p][u]);
        }
      }
    }
    if (more) {
      stage(other_buffer);
    }
    __syncthreads();
    float* done = buffer;
    buffer = other_buffer;
    other_buffer = done;
  }

  // Transpose the warp's results in shared memory, so that neighbouring lanes write neighbouring pixels.
  float* transposed = shared + warp * kPatch * kPitchOut;
  const int u = u0 + lane % kWidth1;
  const int y = first_y + (t0 + warp) * g.step_h, x = first_x + u * g.step_w;
  const bool inside = y < g.height && x < g.width;
  T* pixel = out + n * g.patch_h * g.patch_w * g.plane + static_cast<int64_t>(y) * g.width + x;
#pragma unroll
  for (int p = 0; p < kPatch; ++p) {
#pragma unroll
    for (int v = 0; v < kRun; v += 4) {
      *reinterpret_cast<float4*>(transposed + ph * kPitchOut + run * kRun + v) =
          make_float4(sum[p][v], sum[p][v + 1], sum[p][v + 2], sum[p][v + 3]);
    }
    __syncwarp();
#pragma unroll
    for (int half = 0; half < kPatch; half += 2) {
      const int row = half + lane / kWidth1;
      if (inside && ph0 + row < g.patch_h && pw0 + p < g.patch_w) {
        pixel[(static_cast<int64_t>(ph0 + row) * g.patch_w + pw0 + p) * g.plane] =
            static_cast<T>(transposed[row * kPitchOut + lane % kWidth1]);
      }
    }
    __syncwarp();
  }
}

}  // namespace

template <typename T>
void forward_tiled(const T* in1, const T* in2, T* out, const Geometry& geometry, cudaStream_t stream) {
  const Lattices g(geometry);
  const auto tiles = [](int size, int tile) { return static_cast<int64_t>((size + tile - 1) / tile); };
  const int64_t blocks = g.batch * tiles(g.patch_h, kPatch) * tiles(g.patch_w, kPatch) * g.count_h * g.count_w *
      tiles(g.rows(), kRows) * tiles(g.columns(), kWidth1);
  cudaFuncSetAttribute(forward_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  forward_kernel<T><<<static_cast<unsigned>(blocks), kThreads, kSharedBytes, stream>>>(in1, in2, out, g);
}

template void forward_tiled<float>(const float*, const float*, float*, const Geometry&, cudaStream_t);
template void forward_tiled<c10::Half>(const c10::Half*, const c10::Half*, c10::Half*, const Geometry&, cudaStream_t);
template void forward_tiled<c10::BFloat16>(
    const c10::BFloat16*, const c10::BFloat16*, c10::BFloat16*, const Geometry&, cudaStream_t);

}  // namespace memcnp
