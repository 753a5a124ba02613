#pragma once

#include <cuda_runtime.h>

#include "tensor/cuda_launch.cuh"
#include "tensor/tensor.h"

// Used by all kernels: conversions, 16-byte loads and stores, sums over a warp and a block, fast exponentials. Values are f32
// in registers, and f32 or bf16 in memory.
namespace echo::kernels::cuda {

using echo::cuda::blocks_for;
using echo::cuda::follow_previous;
using echo::cuda::launch;
using echo::cuda::launch_early;
using echo::cuda::shared_memory;
using echo::cuda::stream;

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// Calls body.operator()<T>() with float or bfloat16, the types of activations and weights on a GPU (f64 exists only on the
// CPU).
// Throws Error for other dtypes.
template <class Body>
void dispatch_gpu_float(const char* operation, DType dtype, Body&& body) {
  ECHO_CHECK(dtype == DType::f32 || dtype == DType::bf16, operation, ": ", dtype, " on a GPU, expected f32 or bf16");
  if (dtype == DType::f32) return body.template operator()<float>();
  return body.template operator()<bfloat16>();
}

// The threads of the block together prefetch bytes of global memory into the L2 cache. No value is read, so it is safe for
// memory that another kernel is still writing.
__device__ __forceinline__ void prefetch(const void* begin, int64_t bytes) {
#if defined(__CUDA_ARCH__)
  constexpr int kLine = 128;
  for (int64_t i = int64_t(threadIdx.x) * kLine; i < bytes; i += int64_t(blockDim.x) * kLine)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(static_cast<const char*>(begin) + i));
#else
  (void)begin, (void)bytes;
#endif
}

// The data of a tensor, or null when it is undefined.
template <class T>
T* data_or_null(const Tensor& tensor) {
  return tensor.defined() ? tensor.data<T>() : nullptr;
}

// ---- conversions -------------------------------------------------------------------------------------------------------
__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(bfloat16 value) { return __uint_as_float(uint32_t(value.bits) << 16); }

// Two values rounded to bf16, `low` in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
#if defined(__CUDA_ARCH__)
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
#else
  return uint32_t(bfloat16(low).bits) | uint32_t(bfloat16(high).bits) << 16;
#endif
}
__device__ __forceinline__ float low_bf16(uint32_t packed) { return __uint_as_float(packed << 16); }
__device__ __forceinline__ float high_bf16(uint32_t packed) { return __uint_as_float(packed & 0xffff0000u); }

template <class T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ bfloat16 from_float<bfloat16>(float value) {
  bfloat16 result;
  result.bits = uint16_t(pack_bf16(value, 0.0f));
  return result;
}

// ---- 16 bytes at a time ------------------------------------------------------------------------------------------------
template <class T>
inline constexpr int kPerVector = 16 / int(sizeof(T));

__device__ __forceinline__ void unpack(float (&values)[4], const uint4& raw) {
  values[0] = __uint_as_float(raw.x), values[1] = __uint_as_float(raw.y);
  values[2] = __uint_as_float(raw.z), values[3] = __uint_as_float(raw.w);
}
__device__ __forceinline__ void unpack(float (&values)[8], const uint4& raw) {
  values[0] = low_bf16(raw.x), values[1] = high_bf16(raw.x), values[2] = low_bf16(raw.y), values[3] = high_bf16(raw.y);
  values[4] = low_bf16(raw.z), values[5] = high_bf16(raw.z), values[6] = low_bf16(raw.w), values[7] = high_bf16(raw.w);
}
__device__ __forceinline__ uint4 pack(const float (&values)[4]) {
  return make_uint4(__float_as_uint(values[0]), __float_as_uint(values[1]), __float_as_uint(values[2]),
                    __float_as_uint(values[3]));
}
__device__ __forceinline__ uint4 pack(const float (&values)[8]) {
  return make_uint4(pack_bf16(values[0], values[1]), pack_bf16(values[2], values[3]), pack_bf16(values[4], values[5]),
                    pack_bf16(values[6], values[7]));
}

template <class T>
__device__ __forceinline__ void load_vector(float (&values)[kPerVector<T>], const T* from) {
  unpack(values, *reinterpret_cast<const uint4*>(from));
}
template <class T>
__device__ __forceinline__ void store_vector(T* to, const float (&values)[kPerVector<T>]) {
  *reinterpret_cast<uint4*>(to) = pack(values);
}

// True when rows of `stride` elements that start at `address` can be accessed 16 bytes at a time.
template <class T>
bool is_vector_aligned(const T* address, int64_t stride) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0 && stride % kPerVector<T> == 0;
}

// ---- sums --------------------------------------------------------------------------------------------------------------
// Over the warp's 32 lanes. Every lane gets the result. The order is fixed.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}
template <class T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, value, distance);
    value = other > value ? other : value;
  }
  return value;
}

// The sum over a block of kWarps full warps, in every thread. `scratch` holds kWarps values of shared memory, and is free again
// on return.
template <int kWarps, class T>
__device__ __forceinline__ T block_sum(T value, T* scratch) {
  value = warp_sum(value);
  const int thread = int(threadIdx.x + threadIdx.y * blockDim.x);
  if (thread % kWarp == 0) scratch[thread / kWarp] = value;
  __syncthreads();
  T total = scratch[0];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) total += scratch[i];
  __syncthreads();
  return total;
}

// ---- exponentials ------------------------------------------------------------------------------------------------------
// 2^x, with an error of about 2 units in the last place. Results below the smallest normal number are 0.
__device__ __forceinline__ float fast_exp2(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  const float y = exp2f(x);
  return y < 1.17549435e-38f ? 0.0f : y;  // NaN stays NaN
#endif
}
inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kLn2 = 0.69314718055994531f;
__device__ __forceinline__ float fast_exp(float x) { return fast_exp2(x * kLog2E); }
// 1 / (1 + e^-z). When e^-z overflows, the quotient is 0.
__device__ __forceinline__ float sigmoid(float z) { return __fdividef(1.0f, 1.0f + fast_exp(-z)); }

}  // namespace echo::kernels::cuda
