// Launchers of the CUDA kernels, selected by correlation_cuda.cu. All pointers point to device memory of contiguous
// tensors; all kernels are launched on `stream`.
#pragma once

#include <cuda_runtime_api.h>

#include "../geometry.h"

namespace memcnp {

// Any parameters, one thread per element of the result.
template <typename T>
void forward_general(const T* in1, const T* in2, T* out, const Geometry& g, cudaStream_t stream);
template <typename T>
void backward_general(const T* grad, const T* other, T* result, const Geometry& g, Input which, cudaStream_t stream);

// Tiled in shared memory; only for kernel_size 1, stride 1, padding 0 and planes of fewer than 2^31 elements.
template <typename T>
void forward_tiled(const T* in1, const T* in2, T* out, const Geometry& g, cudaStream_t stream);
template <typename T>
void backward_tiled(const T* grad, const T* other, T* result, const Geometry& g, Input which, cudaStream_t stream);

// With kernel_size 1, stride 1 and padding 0, a pixel is multiplied only with pixels whose coordinates are equal modulo
// dilation_patch. The tiled kernels therefore work on dilation_patch_h * dilation_patch_w separate lattices, on each of
// which the patch is dense. A position (t, u) of lattice (r, q) is the pixel (r + t * step_h, q + u * step_w).
struct Lattices {
  int64_t batch;
  int channels, height, width;
  int patch_h, patch_w, centre_h, centre_w;
  int step_h, step_w;    // dilation_patch
  int count_h, count_w;  // lattices along each axis
  int64_t plane;         // height * width

  explicit Lattices(const Geometry& g);

  // Rows and columns of the first lattice, which is the largest.
  MEMCNP_HOST_DEVICE int rows() const {
    return (height + step_h - 1) / step_h;
  }
  MEMCNP_HOST_DEVICE int columns() const {
    return (width + step_w - 1) / step_w;
  }
};

}  // namespace memcnp
