#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

[[noreturn]] inline void fail_without_cuda(const char* function, Device device) {
  fail(ExitCode::internal, function, ": tensor on ", device, ", but this program is built without CUDA");
}

}  // namespace echo::kernels

// Calls cpu::function(...) or cuda::function(...), depending on the device of `tensor`. The expression has the value of that
// call. A build without nvcc discards the CUDA branch, so cuda::function needs no definition there. In such a build it throws
// Error (internal) for a tensor on a GPU. Do not use it in a template, where the branch would not be discarded.
#define ECHO_DISPATCH_DEVICE(tensor, function, ...)                     \
  [&]() -> decltype(auto) {                                             \
    if ((tensor).device().is_cpu()) return cpu::function(__VA_ARGS__);  \
    if constexpr (::echo::kWithCuda)                                    \
      return cuda::function(__VA_ARGS__);                               \
    else                                                                \
      ::echo::kernels::fail_without_cuda(#function, (tensor).device()); \
  }()
