#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

[[noreturn]] inline void fail_without_cuda(const char* function, Device device) {
  fail(ExitCode::internal, function, ": tensor on ", device, ", but this build is without CUDA");
}

}  // namespace echo::kernels

// Calls cpu::function(...) or cuda::function(...), by where `tensor` is; the expression has the value that these return. In a
// build without nvcc the CUDA branch is discarded, so cuda::function needs no definition there. Not for use in templates, where
// the branch would not be.
#define ECHO_DISPATCH_DEVICE(tensor, function, ...)                     \
  [&]() -> decltype(auto) {                                             \
    if ((tensor).device().is_cpu()) return cpu::function(__VA_ARGS__);  \
    if constexpr (::echo::kWithCuda)                                    \
      return cuda::function(__VA_ARGS__);                               \
    else                                                                \
      ::echo::kernels::fail_without_cuda(#function, (tensor).device()); \
  }()
