// The general CUDA kernels: any parameters, one thread per element of the result, 64-bit indices. Gradients are
// gathered without atomics, so that results are reproducible. double accumulates in double, every other type in float.
#include <algorithm>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "kernels.h"

namespace memcnp {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;  // the kernels loop over the remaining elements

template <typename T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};

int blocks_for(int64_t count) {
  return static_cast<int>(std::min((count + kThreads - 1) / kThreads, kMaxBlocks));
}

__device__ inline bool inside(int64_t position, int64_t size) {
  return position >= 0 && position < size;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* __restrict__ in1, const T* __restrict__ in2, T* __restrict__ out, Geometry g) {
  using Acc = typename Accumulator<T>::type;
  const int64_t plane = g.h.in * g.w.in;
  const int64_t count = g.batch * g.h.patch * g.w.patch * g.h.out * g.w.out;
  const int64_t grid = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; e < count; e += grid) {
    const int64_t x = e % g.w.out, y = e / g.w.out % g.h.out;
    const int64_t cell = e / (g.w.out * g.h.out);
    const int64_t pw = cell % g.w.patch, ph = cell / g.w.patch % g.h.patch, n = cell / (g.w.patch * g.h.patch);
    const int64_t shift_h = g.h.shift(ph), shift_w = g.w.shift(pw);
    Acc sum = 0;
    for (int64_t i = 0; i < g.h.kernel; ++i) {
      const int64_t r = g.h.position1(y, i);
      if (!inside(r, g.h.in) || !inside(r + shift_h, g.h.in)) {
        continue;
      }
      for (int64_t j = 0; j < g.w.kernel; ++j) {
        const int64_t s = g.w.position1(x, j);
        if (!inside(s, g.w.in) || !inside(s + shift_w, g.w.in)) {
          continue;
        }
        const T* a = in1 + n * g.channels * plane + r * g.w.in + s;
        const T* b = in2 + n * g.channels * plane + (r + shift_h) * g.w.in + s + shift_w;
        for (int64_t c = 0; c < g.channels; ++c, a += plane, b += plane) {
          sum += static_cast<Acc>(*a) * static_cast<Acc>(*b);
        }
      }
    }
    out[e] = static_cast<T>(sum);
  }
}

// The output position that uses position r of input1 with tap i, or -1 if there is none.
__device__ inline int64_t output_of(const Axis& a, int64_t r, int64_t i) {
  const int64_t scaled = r + a.padding - i * a.dilation;
  if (scaled < 0 || scaled % a.stride != 0) {
    return -1;
  }
  return scaled / a.stride < a.out ? scaled / a.stride : -1;
}

template <typename T, Input which>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const T* __restrict__ grad, const T* __restrict__ other, T* __restrict__ result, Geometry g) {
  using Acc = typename Accumulator<T>::type;
  const int64_t plane = g.h.in * g.w.in, out_plane = g.h.out * g.w.out;
  const int64_t count = g.batch * g.channels * plane;
  const int64_t grid = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; e < count; e += grid) {
    const int64_t x = e % g.w.in, y = e / g.w.in % g.h.in, n = e / (plane * g.channels);
    const T* source = other + e / plane * plane;
    const T* weights = grad + n * g.h.patch * g.w.patch * out_plane;
    Acc sum = 0;
    for (int64_t ph = 0; ph < g.h.patch; ++ph) {
      // r1: row of input1 in the product; other_y: row of `other` that row y is multiplied with.
      const int64_t r1 = which == Input::kFirst ? y : y - g.h.shift(ph);
      const int64_t other_y = which == Input::kFirst ? y + g.h.shift(ph) : r1;
      if (!inside(other_y, g.h.in)) {
        continue;
      }
      for (int64_t i = 0; i < g.h.kernel; ++i) {
        const int64_t oy = output_of(g.h, r1, i);
        if (oy < 0) {
          continue;
        }
        for (int64_t pw = 0; pw < g.w.patch; ++pw) {
          const int64_t s1 = which == Input::kFirst ? x : x - g.w.shift(pw);
          const int64_t other_x = which == Input::kFirst ? x + g.w.shift(pw) : s1;
          if (!inside(other_x, g.w.in)) {
            continue;
          }
          for (int64_t j = 0; j < g.w.kernel; ++j) {
            const int64_t ox = output_of(g.w, s1, j);
            if (ox >= 0) {
              sum += static_cast<Acc>(weights[(ph * g.w.patch + pw) * out_plane + oy * g.w.out + ox]) *
                  static_cast<Acc>(source[other_y * g.w.in + other_x]);
            }
          }
        }
      }
    }
    result[e] = static_cast<T>(sum);
  }
}

}  // namespace

template <typename T>
void forward_general(const T* in1, const T* in2, T* out, const Geometry& g, cudaStream_t stream) {
  const int64_t count = g.batch * g.h.patch * g.w.patch * g.h.out * g.w.out;
  forward_kernel<T><<<blocks_for(count), kThreads, 0, stream>>>(in1, in2, out, g);
}

template <typename T>
void backward_general(const T* grad, const T* other, T* result, const Geometry& g, Input which, cudaStream_t stream) {
  const int blocks = blocks_for(g.batch * g.channels * g.h.in * g.w.in);
  if (which == Input::kFirst) {
    backward_kernel<T, Input::kFirst><<<blocks, kThreads, 0, stream>>>(grad, other, result, g);
  } else {
    backward_kernel<T, Input::kSecond><<<blocks, kThreads, 0, stream>>>(grad, other, result, g);
  }
}

#define MEMCNP_INSTANTIATE(T)                                                                                 \
  template void forward_general<T>(const T*, const T*, T*, const Geometry&, cudaStream_t);                    \
  template void backward_general<T>(const T*, const T*, T*, const Geometry&, Input, cudaStream_t);

MEMCNP_INSTANTIATE(double)
MEMCNP_INSTANTIATE(float)
MEMCNP_INSTANTIATE(c10::Half)
MEMCNP_INSTANTIATE(c10::BFloat16)
#undef MEMCNP_INSTANTIATE

}  // namespace memcnp
