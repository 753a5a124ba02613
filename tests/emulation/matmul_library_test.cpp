// The requests to cuBLASLt, and what a user reads when it fails.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/matmul/matmul.h"
#include "kernels/matmul/operands.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using kernels::Transpose;

constexpr Device kGpu{DeviceKind::cuda, 0};

void multiply(int64_t m, int64_t n, int64_t k, DType dtype) {
  Tensor c = Tensor::zeros({m, n}, DType::f32, kGpu);
  kernels::matmul(c, Tensor::zeros({m, k}, dtype, kGpu), Transpose::no, Tensor::zeros({n, k}, dtype, kGpu), Transpose::yes);
}

TEST(CudaMatmulLibraryTest, EachShapeIsSearchedForOnce) {
  const int before = emulated_cublas_lt.searches;
  multiply(37, 41, 43, DType::f32);
  multiply(37, 41, 43, DType::f32);
  EXPECT_EQ(emulated_cublas_lt.searches, before + 1);
  multiply(37, 41, 45, DType::f32);
  EXPECT_EQ(emulated_cublas_lt.searches, before + 2);
  EXPECT_EQ(emulated_cublas_lt.workspace_bytes, uint64_t(kernels::kGpuMatmulWorkspace));
}

// Otherwise bf16 results would be sums of partial sums that were rounded to bf16.
TEST(CudaMatmulLibraryTest, PartialSumsAreAddedInF32) {
  multiply(37, 41, 47, DType::bf16);
  EXPECT_EQ(emulated_cublas_lt.reduction_schemes, uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
}

TEST(CudaMatmulLibraryTest, Tf32IsForF32AndOnlyWhereAllowed) {
  multiply(37, 41, 43, DType::f32);
  EXPECT_EQ(emulated_cublas_lt.compute, CUBLAS_COMPUTE_32F);
  kernels::allow_tf32(true);
  multiply(37, 41, 43, DType::f32);
  EXPECT_EQ(emulated_cublas_lt.compute, CUBLAS_COMPUTE_32F_FAST_TF32);
  multiply(37, 41, 43, DType::bf16);
  EXPECT_EQ(emulated_cublas_lt.compute, CUBLAS_COMPUTE_32F);
  kernels::allow_tf32(false);
  multiply(37, 41, 43, DType::f32);
  EXPECT_EQ(emulated_cublas_lt.compute, CUBLAS_COMPUTE_32F);
}

TEST(CudaMatmulLibraryTest, AFailureNamesTheCallTheStatusAndTheShapes) {
  emulated_cublas_lt.answer = CUBLAS_STATUS_EXECUTION_FAILED;
  emulated_cublas_lt.answers = 1;
  multiply(37, 41, 43, DType::bf16);  // succeeds in a second attempt, with more free memory
  EXPECT_EQ(emulated_cublas_lt.answers, 0);
  emulated_cublas_lt.answers = 2;
  const std::string message = error_message(ExitCode::device, [] { multiply(37, 41, 43, DType::bf16); });
  EXPECT_EQ(message,
            "matmul: cublasLtMatmul failed with cuBLAS status 13 (emulated status) for a, transposed b, m 37, n 41, k 43, bf16 "
            "-> f32");
}

TEST(CudaMatmulLibraryTest, AFailedDeviceDoesNotHideTheLibrarysError) {
  emulated_cublas_lt.answer = CUBLAS_STATUS_EXECUTION_FAILED;
  emulated_cublas_lt.answers = 1;
  const ScopedEnvironment failure("CUDA_EMULATION_FAILS_AFTER", "0");
  const std::string message = error_message(ExitCode::device, [] { multiply(37, 41, 43, DType::bf16); });
  EXPECT_EQ(message.find("matmul: cublasLtMatmul failed with cuBLAS status 13"), 0u) << message;
}

}  // namespace
}  // namespace echo
