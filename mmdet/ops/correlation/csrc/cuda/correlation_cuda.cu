// CUDA implementation of the spatial correlation: allocates the result, selects the tiled or the general kernel, and
// launches it on the current stream of the tensors' device.
#include <algorithm>
#include <limits>

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "../correlation.h"
#include "kernels.h"

namespace memcnp {

Lattices::Lattices(const Geometry& g)
    : batch(g.batch),
      channels(static_cast<int>(g.channels)),
      height(static_cast<int>(g.h.in)),
      width(static_cast<int>(g.w.in)),
      patch_h(static_cast<int>(g.h.patch)),
      patch_w(static_cast<int>(g.w.patch)),
      centre_h(static_cast<int>(g.h.centre)),
      centre_w(static_cast<int>(g.w.centre)),
      step_h(static_cast<int>(g.h.dilation_patch)),
      step_w(static_cast<int>(g.w.dilation_patch)),
      count_h(static_cast<int>(std::min(g.h.dilation_patch, g.h.in))),
      count_w(static_cast<int>(std::min(g.w.dilation_patch, g.w.in))),
      plane(g.h.in * g.w.in) {}

namespace {

// The tiled kernels require kernel size 1, stride 1, no padding, and 32-bit offsets inside a plane. They are faster
// than the general kernels only if lattices and patches fill a good part of a tile.
bool use_tiled(const Geometry& g) {
  const auto simple = [](const Axis& a) { return a.kernel == 1 && a.stride == 1 && a.padding == 0; };
  const auto filled = [](const Axis& a) {
    return a.patch >= 4 && a.in / a.dilation_patch >= 4 && a.patch * a.dilation_patch < (1 << 26);
  };
  return simple(g.h) && simple(g.w) && filled(g.h) && filled(g.w) &&
      g.h.in * g.w.in <= std::numeric_limits<int>::max() && g.channels <= std::numeric_limits<int>::max();
}

}  // namespace

at::Tensor forward_cuda(const at::Tensor& input1, const at::Tensor& input2, const Geometry& g) {
  const c10::cuda::CUDAGuard guard(input1.device());
  auto output = at::empty({g.batch, g.h.patch, g.w.patch, g.h.out, g.w.out}, input1.options());
  if (output.numel() == 0) {
    return output;
  }
  const auto stream = c10::cuda::getCurrentCUDAStream();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, input1.scalar_type(), "spatial_correlation", [&] {
        const auto* a = input1.const_data_ptr<scalar_t>();
        const auto* b = input2.const_data_ptr<scalar_t>();
        auto* out = output.mutable_data_ptr<scalar_t>();
        if constexpr (!std::is_same_v<scalar_t, double>) {
          if (use_tiled(g)) {
            forward_tiled(a, b, out, g, stream);
            return;
          }
        }
        forward_general(a, b, out, g, stream);
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

at::Tensor backward_cuda(const at::Tensor& grad_output, const at::Tensor& other, const Geometry& g, Input which) {
  const c10::cuda::CUDAGuard guard(other.device());
  auto result = at::empty({g.batch, g.channels, g.h.in, g.w.in}, other.options());
  if (result.numel() == 0) {
    return result;
  }
  const auto stream = c10::cuda::getCurrentCUDAStream();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, other.scalar_type(), "spatial_correlation_backward", [&] {
        const auto* grad = grad_output.const_data_ptr<scalar_t>();
        const auto* source = other.const_data_ptr<scalar_t>();
        auto* out = result.mutable_data_ptr<scalar_t>();
        if constexpr (!std::is_same_v<scalar_t, double>) {
          if (use_tiled(g)) {
            backward_tiled(grad, source, out, g, which, stream);
            return;
          }
        }
        backward_general(grad, source, out, g, which, stream);
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

}  // namespace memcnp
