// The geometry of a spatial correlation, shared by the CPU and the CUDA kernels.
//
// Along each axis an output position y, a kernel tap i and a patch cell p select two input positions:
//     r1 = y * stride - padding + i * dilation          in input1
//     r2 = r1 + dilation_patch * (p - centre)           in input2, centre = floor((patch - 1) / 2)
// and a term is included only if both lie inside the input. All kernels, forward and backward, use these positions.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define MEMCNP_HOST_DEVICE __host__ __device__
#else
#define MEMCNP_HOST_DEVICE
#endif

namespace memcnp {

struct Axis {
  int64_t in, out;  // sizes of the inputs and of the output along this axis
  int64_t kernel, patch, stride, padding, dilation, dilation_patch, centre;

  MEMCNP_HOST_DEVICE int64_t shift(int64_t p) const {
    return dilation_patch * (p - centre);
  }
  MEMCNP_HOST_DEVICE int64_t position1(int64_t y, int64_t i) const {
    return y * stride - padding + i * dilation;
  }
};

struct Geometry {
  int64_t batch, channels;
  Axis h, w;
};

// The input whose gradient is computed.
enum class Input { kFirst, kSecond };

}  // namespace memcnp
