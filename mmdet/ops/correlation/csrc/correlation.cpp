// Schemas of the spatial correlation operators, their argument checks and the registration of the kernels.
// mmdet/ops/correlation/spatial_correlation.py adds fake kernels, autograd and autocast in Python, and checks arguments
// before these checks do, with messages that contain the values. The checks here are for direct calls of torch.ops.
#include <string>
#include <tuple>

#include <torch/library.h>
#include <torch/version.h>

#include "correlation.h"

#if defined(MEMCNP_WITH_CUDA)
#include <cuda_runtime_api.h>
#endif

namespace memcnp {

namespace {

Axis make_axis(int axis, int64_t in, const Parameters& p) {
  Axis a{};
  a.in = in;
  a.kernel = p.kernel_size[axis];
  a.patch = p.patch_size[axis];
  a.stride = p.stride[axis];
  a.padding = p.padding[axis];
  a.dilation = p.dilation[axis];
  a.dilation_patch = p.dilation_patch[axis];
  TORCH_CHECK_VALUE(
      a.kernel > 0 && a.patch > 0 && a.stride > 0 && a.dilation > 0 && a.dilation_patch > 0,
      "spatial correlation: kernel_size, patch_size, stride, dilation and dilation_patch must be at least 1");
  TORCH_CHECK_VALUE(a.padding >= 0, "spatial correlation: padding must not be negative");
  const int64_t span = in + 2 * a.padding - (a.kernel - 1) * a.dilation - 1;
  TORCH_CHECK_VALUE(span >= 0, "spatial correlation: the padded input is smaller than the dilated kernel");
  a.out = span / a.stride + 1;
  a.centre = (a.patch - 1) / 2;
  return a;
}

void check_pair(const at::Tensor& a, const at::Tensor& b) {
  TORCH_CHECK_VALUE(a.device() == b.device(), "spatial correlation: the tensors are on different devices");
  TORCH_CHECK_TYPE(a.scalar_type() == b.scalar_type(), "spatial correlation: the tensors differ in dtype");
  const auto type = a.scalar_type();
  TORCH_CHECK_TYPE(
      type == at::kDouble || type == at::kFloat || type == at::kHalf || type == at::kBFloat16,
      "spatial correlation: the dtype must be float64, float32, float16 or bfloat16");
}

using Forward = at::Tensor (*)(const at::Tensor&, const at::Tensor&, const Geometry&);
using Backward = at::Tensor (*)(const at::Tensor&, const at::Tensor&, const Geometry&, Input);

template <Forward kernel>
at::Tensor forward(
    const at::Tensor& input1, const at::Tensor& input2, at::IntArrayRef kernel_size, at::IntArrayRef patch_size,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, at::IntArrayRef dilation_patch) {
  check_pair(input1, input2);
  TORCH_CHECK_VALUE(input1.sizes() == input2.sizes(), "spatial correlation: the inputs differ in shape");
  const auto geometry =
      make_geometry(input1.sizes(), {kernel_size, patch_size, stride, padding, dilation, dilation_patch});
  return kernel(input1.contiguous(), input2.contiguous(), geometry);
}

template <Backward kernel, Input which>
at::Tensor backward(
    const at::Tensor& grad_output, const at::Tensor& other, at::IntArrayRef kernel_size, at::IntArrayRef patch_size,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, at::IntArrayRef dilation_patch) {
  check_pair(grad_output, other);
  const auto g = make_geometry(other.sizes(), {kernel_size, patch_size, stride, padding, dilation, dilation_patch});
  const int64_t expected[] = {g.batch, g.h.patch, g.w.patch, g.h.out, g.w.out};
  TORCH_CHECK_VALUE(
      grad_output.sizes() == at::IntArrayRef(expected),
      "spatial correlation: grad_output must have the output's shape");
  return kernel(grad_output.contiguous(), other.contiguous(), g, which);
}

// Returns the PyTorch version this library was built with, and CUDA's as 1000 * major + 10 * minor, 0 without CUDA.
std::tuple<std::string, int64_t> build_info() {
#if defined(MEMCNP_WITH_CUDA)
  return {TORCH_VERSION, CUDART_VERSION};
#else
  return {TORCH_VERSION, 0};
#endif
}

}  // namespace

Geometry make_geometry(at::IntArrayRef input_sizes, const Parameters& parameters) {
  TORCH_CHECK_VALUE(input_sizes.size() == 4, "spatial correlation: the inputs must be (N, C, h, w)");
  for (const auto& pair : {parameters.kernel_size, parameters.patch_size, parameters.stride, parameters.padding,
                           parameters.dilation, parameters.dilation_patch}) {
    TORCH_CHECK_VALUE(pair.size() == 2, "spatial correlation: each parameter must be (vertical, horizontal)");
  }
  return {input_sizes[0], input_sizes[1], make_axis(0, input_sizes[2], parameters),
          make_axis(1, input_sizes[3], parameters)};
}

TORCH_LIBRARY(memcnp, m) {
  m.def(
      "spatial_correlation(Tensor input1, Tensor input2, int[2] kernel_size, int[2] patch_size, int[2] stride, "
      "int[2] padding, int[2] dilation, int[2] dilation_patch) -> Tensor");
  m.def(
      "spatial_correlation_grad_input1(Tensor grad_output, Tensor input2, int[2] kernel_size, int[2] patch_size, "
      "int[2] stride, int[2] padding, int[2] dilation, int[2] dilation_patch) -> Tensor");
  m.def(
      "spatial_correlation_grad_input2(Tensor grad_output, Tensor input1, int[2] kernel_size, int[2] patch_size, "
      "int[2] stride, int[2] padding, int[2] dilation, int[2] dilation_patch) -> Tensor");
  m.def("correlation_build_info() -> (str, int)", &build_info);
}

TORCH_LIBRARY_IMPL(memcnp, CPU, m) {
  m.impl("spatial_correlation", &forward<forward_cpu>);
  m.impl("spatial_correlation_grad_input1", &backward<backward_cpu, Input::kFirst>);
  m.impl("spatial_correlation_grad_input2", &backward<backward_cpu, Input::kSecond>);
}

#if defined(MEMCNP_WITH_CUDA)
TORCH_LIBRARY_IMPL(memcnp, CUDA, m) {
  m.impl("spatial_correlation", &forward<forward_cuda>);
  m.impl("spatial_correlation_grad_input1", &backward<backward_cuda, Input::kFirst>);
  m.impl("spatial_correlation_grad_input2", &backward<backward_cuda, Input::kSecond>);
}
#endif

}  // namespace memcnp
