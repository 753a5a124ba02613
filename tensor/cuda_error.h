#pragma once

#include <cuda_runtime.h>

#include "base/error.h"

namespace echo::cuda {

// Throws Error (device) when `status` is a failure: `operation` is the call, or the kernel and its shapes. Errors that a user can do
// something about say what.
void check(cudaError_t status, const char* operation);

template <class... Parts>
void check(cudaError_t status, const Parts&... operation) {
  if (status != cudaSuccess) [[unlikely]] check(status, concat(operation...).c_str());
}

}  // namespace echo::cuda

#define ECHO_CUDA(call) ::echo::cuda::check(call, #call)
