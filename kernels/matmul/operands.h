#pragma once

#include "tensor/allocator.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// The checked arguments of one product, row-major: c (m, n) = or += op(a) (m, k) op(b) (k, n). Leading dimensions count
// elements.
struct MatmulOperands {
  void* c;
  const void *a, *b;
  DType dtype, c_dtype;  // of a and b, and of c
  int64_t m, n, k;
  int64_t lda, ldb, ldc;
  bool transpose_a, transpose_b, accumulate;
  Device device;
};

namespace cpu {
void matmul(const MatmulOperands& operands);
}  // namespace cpu
namespace cuda {
void matmul(const MatmulOperands& operands);
void allow_tf32(bool allowed);
}  // namespace cuda

}  // namespace echo::kernels
