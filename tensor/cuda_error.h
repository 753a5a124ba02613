#pragma once

#include <cuda_runtime.h>

#include "base/error.h"

namespace echo::cuda {

// Throws Error (device) when `status` is a failure. `operation` names the call, or the kernel and its shapes. If a user can do
// something about the error, the message says what.
void check(cudaError_t status, const char* operation);

// The same for the status of a kernel launch. `name` is the kernel's mangled name, or null when it is not known.
void check_launch(cudaError_t status, const char* name, dim3 grid, dim3 block, size_t shared_bytes);

template <class... Parts>
void check(cudaError_t status, const Parts&... operation) {
  if (status != cudaSuccess) [[unlikely]]
    check(status, concat(operation...).c_str());
}

}  // namespace echo::cuda

#define ECHO_CUDA(call) ::echo::cuda::check(call, #call)
