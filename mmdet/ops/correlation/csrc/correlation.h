// Interface between correlation.cpp and the CPU and CUDA implementations: one forward and one backward function each.
#pragma once

#include <ATen/core/Tensor.h>

#include "geometry.h"

namespace memcnp {

// The six parameters of the operator, each (vertical, horizontal).
struct Parameters {
  at::IntArrayRef kernel_size, patch_size, stride, padding, dilation, dilation_patch;
};

// Checks the parameters and the (N, C, h, w) sizes of an input; throws an exception if they are invalid.
Geometry make_geometry(at::IntArrayRef input_sizes, const Parameters& parameters);

// The tensors are checked: contiguous, of one dtype, on one device. `other` is input2 for the gradient of input1, which
// sums grad_output * input2, and input1 for the gradient of input2.
at::Tensor forward_cpu(const at::Tensor& input1, const at::Tensor& input2, const Geometry& geometry);
at::Tensor backward_cpu(const at::Tensor& grad_output, const at::Tensor& other, const Geometry& geometry, Input which);
at::Tensor forward_cuda(const at::Tensor& input1, const at::Tensor& input2, const Geometry& geometry);
at::Tensor backward_cuda(const at::Tensor& grad_output, const at::Tensor& other, const Geometry& geometry, Input which);

}  // namespace memcnp
