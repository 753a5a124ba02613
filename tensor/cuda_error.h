#pragma once

#include <cuda_runtime.h>

#include "base/error.h"

namespace echo::cuda {

// Throws Error (device) when `status` is a failure: `operation` is the call, or the kernel and its shapes. Errors that a user
// can do something about say what.
void check(cudaError_t status, const char* operation);

// The same for what starting a kernel has returned; `name` as the compiler mangled it, null: not known.
void check_launch(cudaError_t status, const char* name, dim3 grid, dim3 block, size_t shared_bytes);

template <class... Parts>
void check(cudaError_t status, const Parts&... operation) {
  if (status != cudaSuccess) [[unlikely]]
    check(status, concat(operation...).c_str());
}

}  // namespace echo::cuda

#define ECHO_CUDA(call) ::echo::cuda::check(call, #call)
