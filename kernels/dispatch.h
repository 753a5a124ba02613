#pragma once

#include "tensor/tensor.h"

// Calls cpu::function(...) or cuda::function(...), by where `tensor` is. In a build without nvcc the CUDA branch is discarded,
// so cuda::function needs no definition there. For use inside a function that is not a template's.
#define ECHO_DISPATCH_DEVICE(tensor, function, ...)                                                         \
  do {                                                                                                      \
    if ((tensor).device().is_cpu()) {                                                                       \
      cpu::function(__VA_ARGS__);                                                                           \
    } else {                                                                                                \
      if constexpr (::echo::kWithCuda) {                                                                    \
        cuda::function(__VA_ARGS__);                                                                        \
      } else {                                                                                              \
        ECHO_CHECK(false, #function ": tensor on ", (tensor).device(), ", but this build is without CUDA"); \
      }                                                                                                     \
    }                                                                                                       \
  } while (false)

// The same for a function that returns a value: the last statement of its caller.
#define ECHO_DISPATCH_DEVICE_VALUE(tensor, function, ...)                                                      \
  if ((tensor).device().is_cpu()) return cpu::function(__VA_ARGS__);                                           \
  if constexpr (::echo::kWithCuda) {                                                                           \
    return cuda::function(__VA_ARGS__);                                                                        \
  } else {                                                                                                     \
    fail(ExitCode::internal, #function ": tensor on ", (tensor).device(), ", but this build is without CUDA"); \
  }
