#pragma once

#include <initializer_list>

#include "tensor/tensor.h"

namespace echo::kernels {

// Loops over at most this many elements run on one thread, because starting a team of threads costs some microseconds.
inline constexpr int64_t kSerialElements = 1 << 15;

// target = value, rounded. For bf16 it assigns the bits instead of the struct, because GCC 12 does not vectorise a loop that
// copies the struct.
template <class T>
inline void assign(T& target, accumulator<T> value) {
  target = value;
}
inline void assign(bfloat16& target, float value) { target.bits = bfloat16(value).bits; }

// The checks that kernels share: all tensors are defined, contiguous, on one device and of shape `shape`. Throws Error
// otherwise.
inline void check_operands(const char* operation, const Shape& shape, std::initializer_list<const Tensor*> tensors) {
  const Tensor& first = **tensors.begin();
  for (const Tensor* tensor : tensors) {
    ECHO_CHECK(tensor->defined(), operation, ": an undefined tensor");
    ECHO_CHECK(tensor->shape() == shape, operation, ": shape ", tensor->shape(), ", expected ", shape);
    ECHO_CHECK(tensor->is_contiguous(), operation, ": tensor ", *tensor, " is not contiguous");
    ECHO_CHECK(tensor->device() == first.device(), operation, ": tensors on ", first.device(), " and ", tensor->device());
  }
}

inline void check_same_dtype(const char* operation, std::initializer_list<const Tensor*> tensors) {
  const Tensor& first = **tensors.begin();
  for (const Tensor* tensor : tensors)
    ECHO_CHECK(tensor->dtype() == first.dtype(), operation, ": dtypes ", first.dtype(), " and ", tensor->dtype());
}

}  // namespace echo::kernels
