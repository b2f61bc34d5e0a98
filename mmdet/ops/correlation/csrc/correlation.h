// What correlation.cpp needs of the CPU and the CUDA side: one forward and one backward function for each.
#pragma once

#include <ATen/core/Tensor.h>

#include "geometry.h"

namespace memcnp {

// The six parameters of the operator, each (vertical, horizontal).
struct Parameters {
  at::IntArrayRef kernel_size, patch_size, stride, padding, dilation, dilation_patch;
};

// Checks the parameters and the (N, C, h, w) sizes of an input; throws with one line if they do not fit.
Geometry make_geometry(at::IntArrayRef input_sizes, const Parameters& parameters);

// Kernels of one device. The tensors are contiguous, of one dtype and checked. `other` is the input the gradient
// does not belong to: grad of input1 gathers grad_output * input2, grad of input2 gathers grad_output * input1.
at::Tensor forward_cpu(const at::Tensor& input1, const at::Tensor& input2, const Geometry& geometry);
at::Tensor backward_cpu(const at::Tensor& grad_output, const at::Tensor& other, const Geometry& geometry, Input which);
at::Tensor forward_cuda(const at::Tensor& input1, const at::Tensor& input2, const Geometry& geometry);
at::Tensor backward_cuda(const at::Tensor& grad_output, const at::Tensor& other, const Geometry& geometry, Input which);

}  // namespace memcnp
