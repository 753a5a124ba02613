#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace echo::kernels::engine {

// The library that multiplies f32 and bf16 matrices on the CPU: oneDNN, or OpenBLAS when oneDNN is not installed. Matrices are
// row-major, and leading dimensions count elements. kernels::matmul has checked the arguments. Throws Error when oneDNN fails.
void matmul_f32(float* c, int64_t ldc, const float* a, int64_t lda, bool transpose_a, const float* b, int64_t ldb,
                bool transpose_b, int64_t m, int64_t n, int64_t k, bool accumulate);

// c is bf16 or f32 (c_dtype). Sums are f32.
void matmul_bf16(void* c, DType c_dtype, int64_t ldc, const bfloat16* a, int64_t lda, bool transpose_a, const bfloat16* b,
                 int64_t ldb, bool transpose_b, int64_t m, int64_t n, int64_t k, bool accumulate);

}  // namespace echo::kernels::engine
