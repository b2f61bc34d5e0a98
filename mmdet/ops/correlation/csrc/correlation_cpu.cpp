// CPU kernels of the spatial correlation.
//
// In both kernels a task computes one row of the result by adding shifted rows. The inner loops run over x, with unit
// stride if the operator's stride is 1, so that the compiler vectorises them.
#include <algorithm>
#include <vector>

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "correlation.h"

// A wheel must run on any x86-64 CPU, so support of AVX2 and FMA is checked at run time, not at compile time.
#if defined(__x86_64__) && defined(__GNUC__)
#define MEMCNP_AVX2 __attribute__((target("avx2,fma")))
#define MEMCNP_INLINE __attribute__((always_inline)) inline
#else
#define MEMCNP_AVX2
#define MEMCNP_INLINE inline
#endif

namespace memcnp {

namespace {

// Output positions [begin, end) for which tap i lies inside input1 and the position shifted by `shift` inside input2.
struct Range {
  int64_t begin, end;
};

Range valid_range(const Axis& a, int64_t i, int64_t shift) {
  const int64_t offset = a.padding - i * a.dilation;  // y * stride = r1 + offset
  const int64_t first = std::max<int64_t>({0, -shift + offset, offset});
  const int64_t last = std::min(a.in, a.in - shift) - 1 + offset;
  return {(first + a.stride - 1) / a.stride, last < 0 ? 0 : std::min(a.out, last / a.stride + 1)};
}

bool has_avx2() {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool answer = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return answer;
#else
  return false;
#endif
}

// sum[x] += a[x * stride] * b[x * stride] over `channels` planes of `plane` elements each, four at a time.
template <typename T>
MEMCNP_INLINE void add_products(
    T* __restrict__ sum, const T* __restrict__ a, const T* __restrict__ b, int64_t count, int64_t stride,
    int64_t channels, int64_t plane) {
  int64_t c = 0;
  if (stride == 1) {
    for (; c + 4 <= channels; c += 4, a += 4 * plane, b += 4 * plane) {
      for (int64_t x = 0; x < count; ++x) {
        sum[x] += a[x] * b[x] + a[x + plane] * b[x + plane] + a[x + 2 * plane] * b[x + 2 * plane] +
            a[x + 3 * plane] * b[x + 3 * plane];
      }
    }
  }
  for (; c < channels; ++c, a += plane, b += plane) {
    for (int64_t x = 0; x < count; ++x) {
      sum[x] += a[x * stride] * b[x * stride];
    }
  }
}

// sum[x * stride] += weight[x] * b[x * stride] in `channels` planes of `plane` elements each, four at a time.
template <typename T>
MEMCNP_INLINE void add_weighted(
    T* __restrict__ sum, const T* __restrict__ weight, const T* __restrict__ b, int64_t count, int64_t stride,
    int64_t channels, int64_t plane) {
  int64_t c = 0;
  if (stride == 1) {
    for (; c + 4 <= channels; c += 4, sum += 4 * plane, b += 4 * plane) {
      T *__restrict__ sum1 = sum + plane, *__restrict__ sum2 = sum + 2 * plane, *__restrict__ sum3 = sum + 3 * plane;
      for (int64_t x = 0; x < count; ++x) {
        sum[x] += weight[x] * b[x];
        sum1[x] += weight[x] * b[x + plane];
        sum2[x] += weight[x] * b[x + 2 * plane];
        sum3[x] += weight[x] * b[x + 3 * plane];
      }
    }
  }
  for (; c < channels; ++c, sum += plane, b += plane) {
    for (int64_t x = 0; x < count; ++x) {
      sum[x * stride] += weight[x] * b[x * stride];
    }
  }
}

template <typename T>
using Loop = void (*)(T*, const T*, const T*, int64_t, int64_t, int64_t, int64_t);

template <typename T>
void add_products_plain(T* s, const T* a, const T* b, int64_t n, int64_t stride, int64_t channels, int64_t plane) {
  add_products(s, a, b, n, stride, channels, plane);
}
template <typename T>
MEMCNP_AVX2 void add_products_avx2(
    T* s, const T* a, const T* b, int64_t n, int64_t stride, int64_t channels, int64_t plane) {
  add_products(s, a, b, n, stride, channels, plane);
}
template <typename T>
void add_weighted_plain(T* s, const T* a, const T* b, int64_t n, int64_t stride, int64_t channels, int64_t plane) {
  add_weighted(s, a, b, n, stride, channels, plane);
}
template <typename T>
MEMCNP_AVX2 void add_weighted_avx2(
    T* s, const T* a, const T* b, int64_t n, int64_t stride, int64_t channels, int64_t plane) {
  add_weighted(s, a, b, n, stride, channels, plane);
}

template <typename T>
void forward_rows(const T* in1, const T* in2, T* out, const Geometry& g) {
  const Loop<T> add = has_avx2() ? add_products_avx2<T> : add_products_plain<T>;
  const int64_t plane = g.h.in * g.w.in;
  at::parallel_for(0, g.batch * g.h.patch * g.h.out, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t y = task % g.h.out;
      const int64_t ph = task / g.h.out % g.h.patch;
      const int64_t n = task / (g.h.out * g.h.patch);
      for (int64_t pw = 0; pw < g.w.patch; ++pw) {
        T* row = out + (((n * g.h.patch + ph) * g.w.patch + pw) * g.h.out + y) * g.w.out;
        for (int64_t i = 0; i < g.h.kernel; ++i) {
          const int64_t r1 = g.h.position1(y, i), r2 = r1 + g.h.shift(ph);
          if (r1 < 0 || r1 >= g.h.in || r2 < 0 || r2 >= g.h.in) {
            continue;
          }
          for (int64_t j = 0; j < g.w.kernel; ++j) {
            const int64_t shift = g.w.shift(pw);
            const Range x = valid_range(g.w, j, shift);
            if (x.begin >= x.end) {
              continue;
            }
            const int64_t column = g.w.position1(x.begin, j);
            add(
                row + x.begin, in1 + n * g.channels * plane + r1 * g.w.in + column,
                in2 + n * g.channels * plane + r2 * g.w.in + column + shift, x.end - x.begin, g.w.stride, g.channels,
                plane);
          }
        }
      }
    }
  });
}

template <typename T>
void backward_rows(const T* grad, const T* other, T* result, const Geometry& g, Input which) {
  constexpr int64_t kBlock = 16;  // channels multiplied by a weight while it is in the cache
  const Loop<T> add = has_avx2() ? add_weighted_avx2<T> : add_weighted_plain<T>;
  const bool first = which == Input::kFirst;
  const int64_t plane = g.h.in * g.w.in;
  at::parallel_for(0, g.batch * g.h.in, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t own_row = task % g.h.in, n = task / g.h.in;
      for (int64_t c = 0; c < g.channels; c += kBlock) {
        const int64_t channels = std::min(kBlock, g.channels - c);
        const T* source = other + (n * g.channels + c) * plane;
        T* target = result + (n * g.channels + c) * plane + own_row * g.w.in;
        for (int64_t ph = 0; ph < g.h.patch; ++ph) {
          // r1: row of input1 in the product; other_row: row of `other` that own_row is multiplied with.
          const int64_t r1 = first ? own_row : own_row - g.h.shift(ph);
          const int64_t other_row = first ? own_row + g.h.shift(ph) : r1;
          if (other_row < 0 || other_row >= g.h.in) {
            continue;
          }
          for (int64_t i = 0; i < g.h.kernel; ++i) {
            const int64_t scaled = r1 + g.h.padding - i * g.h.dilation;
            if (scaled < 0 || scaled % g.h.stride != 0 || scaled / g.h.stride >= g.h.out) {
              continue;
            }
            for (int64_t pw = 0; pw < g.w.patch; ++pw) {
              const T* weights =
                  grad + (((n * g.h.patch + ph) * g.w.patch + pw) * g.h.out + scaled / g.h.stride) * g.w.out;
              const int64_t shift = g.w.shift(pw);
              for (int64_t j = 0; j < g.w.kernel; ++j) {
                const Range x = valid_range(g.w, j, shift);
                if (x.begin >= x.end) {
                  continue;
                }
                const int64_t column1 = g.w.position1(x.begin, j), column2 = column1 + shift;
                add(target + (first ? column1 : column2), weights + x.begin,
                    source + other_row * g.w.in + (first ? column2 : column1), x.end - x.begin, g.w.stride, channels,
                    plane);
              }
            }
          }
        }
      }
    }
  });
}

// float64 accumulates in float64, every other dtype in float32.
at::ScalarType accumulation_type(const at::Tensor& t) {
  return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace

at::Tensor forward_cpu(const at::Tensor& input1, const at::Tensor& input2, const Geometry& g) {
  const auto type = accumulation_type(input1);
  const auto a = input1.to(type), b = input2.to(type);
  auto output = at::zeros({g.batch, g.h.patch, g.w.patch, g.h.out, g.w.out}, a.options());
  AT_DISPATCH_FLOATING_TYPES(type, "spatial_correlation", [&] {
    forward_rows(a.const_data_ptr<scalar_t>(), b.const_data_ptr<scalar_t>(), output.mutable_data_ptr<scalar_t>(), g);
  });
  return output.to(input1.scalar_type());
}

at::Tensor backward_cpu(const at::Tensor& grad_output, const at::Tensor& other, const Geometry& g, Input which) {
  const auto type = accumulation_type(other);
  const auto grad = grad_output.to(type), source = other.to(type);
  auto result = at::zeros({g.batch, g.channels, g.h.in, g.w.in}, source.options());
  AT_DISPATCH_FLOATING_TYPES(type, "spatial_correlation_backward", [&] {
    backward_rows(
        grad.const_data_ptr<scalar_t>(), source.const_data_ptr<scalar_t>(), result.mutable_data_ptr<scalar_t>(), g,
        which);
  });
  return result.to(other.scalar_type());
}

}  // namespace memcnp
