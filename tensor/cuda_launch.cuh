#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tensor/cuda_context.h"
#include "tensor/cuda_error.h"

// The only way to start a kernel and to get dynamic shared memory, for nvcc and for a host compiler that emulates the device.
namespace echo::cuda {

// Number of blocks for `items` items, with `per_block` items per block.
inline unsigned blocks_for(int64_t items, int64_t per_block) { return unsigned((items + per_block - 1) / per_block); }

#if defined(__CUDACC__)

// kernel<<<grid, block, shared_bytes, stream>>>(arguments...) with error checks. It also requests more than 48 KiB of dynamic
// shared memory, so callers need not.
template <class... Parameters, class... Arguments>
void launch(const cudaLaunchAttribute* attributes, int attribute_count, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            size_t shared_bytes, cudaStream_t on, Arguments&&... arguments) {
  constexpr size_t kWithoutAsking = 48 << 10;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = on;
  config.attrs = const_cast<cudaLaunchAttribute*>(attributes);
  config.numAttrs = unsigned(attribute_count);
  const cudaError_t status = with_memory_released([&] {
    const cudaError_t prepared =
        shared_bytes > kWithoutAsking
            ? cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes))
            : cudaSuccess;
    return prepared != cudaSuccess ? prepared : cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  });
  if (status != cudaSuccess) [[unlikely]] {
    const char* name = nullptr;
    (void)cudaFuncGetName(&name, reinterpret_cast<const void*>(kernel));
    check_launch(status, name, grid, block, shared_bytes);
  }
}
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t on,
            Arguments&&... arguments) {
  launch(nullptr, 0, kernel, grid, block, shared_bytes, on, std::forward<Arguments>(arguments)...);
}

// True when this build has code that waits in follow_previous() for every GPU that can start a kernel early. Such a GPU has
// compute capability 9.0 or newer, and runs the newest code of the build.
constexpr bool has_early_code() {
  for (const int architecture : {__CUDA_ARCH_LIST__})
    if (architecture >= 900) return true;
  return false;
}

// Like launch(). But on GPUs from compute capability 9.0 on, blocks start while the previous kernel of the stream still runs,
// which hides the launch time. Every block must call follow_previous() before it touches memory that other kernels write.
template <class... Parameters, class... Arguments>
void launch_early(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t on,
                  Arguments&&... arguments) {
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  launch(&early, has_early_code() && may_launch_early() ? 1 : 0, kernel, grid, block, shared_bytes, on,
         std::forward<Arguments>(arguments)...);
}

// Waits until the previous kernels have ended and their writes are visible. Then allows blocks of the next kernel to start.
// This order lets the next kernel rely on everything before this one.
__device__ __forceinline__ void follow_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// The block's dynamic shared memory, aligned to 1024 bytes.
template <class T = unsigned char>
__device__ __forceinline__ T* shared_memory() {
  extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
  return reinterpret_cast<T*>(dynamic_shared_memory);
}

#else

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t, Arguments&&... arguments) {
  const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  const auto check_pointer = []<class T>(const T& value) {
    if constexpr (std::is_pointer_v<T>) cuda_emulation::check_device_pointer(value);
  };
  std::apply([&](const auto&... each) { (check_pointer(each), ...); }, values);
  cuda_emulation::submit(grid, block, shared_bytes, [=] { std::apply(kernel, values); });
}

template <class... Parameters, class... Arguments>
void launch_early(void (*kernel)(Parameters...), Arguments&&... arguments) {
  launch(kernel, std::forward<Arguments>(arguments)...);
}
inline void follow_previous() {}

template <class T = unsigned char>
T* shared_memory() {
  return reinterpret_cast<T*>(cuda_emulation::dynamic_shared_memory());
}

#endif

}  // namespace echo::cuda
