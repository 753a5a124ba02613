// Matrix products on a GPU with cuBLASLt, which is column-major. The row-major c = op(a) op(b) is its c' = op(b)' op(a)', so b
// is passed as the first operand and no data is moved. The algorithm for each shape is chosen once and cached, so that two
// equal runs use the same one. Sums are f32, for bf16 or f32 operands (TF32 only when allowed).
#include <array>
#include <bit>
#include <map>
#include <mutex>

#include "kernels/cuda/common.cuh"
#include "kernels/matmul/cublas_lt.cuh"
#include "kernels/matmul/few_rows.h"
#include "kernels/matmul/matmul.h"
#include "kernels/matmul/operands.h"

namespace echo::kernels::cuda {
namespace {

void check(cublasStatus_t status, const char* call, const MatmulOperands& p) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  fail(ExitCode::device, "matmul: ", call, " failed with cuBLAS status ", int(status), " (", cublas_lt().status_string(status),
       ") for ", p.transpose_a ? "transposed " : "", "a, ", p.transpose_b ? "transposed " : "", "b, m ", p.m, ", n ", p.n,
       ", k ", p.k, ", ", p.dtype, " -> ", p.c_dtype);
}

cudaDataType type_of(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

// The largest power of two, up to 256, that divides an address.
int alignment_of(const void* address) { return 1 << std::min(std::countr_zero(reinterpret_cast<uintptr_t>(address)), 8); }

// Descriptors and algorithm for one shape.
struct Algorithm {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm;
};

using Key = std::array<int64_t, 11>;

Key key_of(const MatmulOperands& p, bool tf32) {
  const int64_t flags = int64_t(p.transpose_a) | int64_t(p.transpose_b) << 1 | int64_t(p.accumulate) << 2 | int64_t(tf32) << 3;
  return {p.m,
          p.n,
          p.k,
          p.lda,
          p.ldb,
          p.ldc,
          flags,
          int64_t(p.dtype) << 8 | int64_t(p.c_dtype),
          alignment_of(p.a),
          alignment_of(p.b),
          alignment_of(p.c)};
}

Algorithm choose_algorithm(cublasLtHandle_t handle, const MatmulOperands& p, bool tf32) {
  Algorithm algorithm;
  const cublasComputeType_t compute = tf32 && p.dtype == DType::f32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  check(cublas_lt().create_operation(&algorithm.operation, compute, CUDA_R_32F), "cublasLtMatmulDescCreate", p);
  const cublasOperation_t first = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, second = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  check(cublas_lt().set_operation_attribute(algorithm.operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first), "TRANSA",
        p);
  check(cublas_lt().set_operation_attribute(algorithm.operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second), "TRANSB",
        p);
  const auto layout = [&](cublasLtMatrixLayout_t* result, DType dtype, int64_t rows, int64_t columns, int64_t stride) {
    check(cublas_lt().create_layout(result, type_of(dtype), uint64_t(rows), uint64_t(columns), stride),
          "cublasLtMatrixLayoutCreate", p);
  };
  // The extents as stored, in column-major order.
  layout(&algorithm.b, p.dtype, p.transpose_b ? p.k : p.n, p.transpose_b ? p.n : p.k, p.ldb);
  layout(&algorithm.a, p.dtype, p.transpose_a ? p.m : p.k, p.transpose_a ? p.k : p.m, p.lda);
  layout(&algorithm.c, p.c_dtype, p.n, p.m, p.ldc);

  cublasLtMatmulPreference_t preference = nullptr;
  check(cublas_lt().create_preference(&preference), "cublasLtMatmulPreferenceCreate", p);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(cublas_lt().set_preference_attribute(preference, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute", p);
  };
  const uint64_t workspace = kGpuMatmulWorkspace;
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
  // When a product is split along k, its partial sums are added in f32 and in a fixed order.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t(alignment_of(p.b)));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t(alignment_of(p.a)));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, uint32_t(alignment_of(p.c)));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t(alignment_of(p.c)));
  cublasLtMatmulHeuristicResult_t found = {};
  int count = 0;
  check(cublas_lt().find_algorithm(handle, algorithm.operation, algorithm.b, algorithm.a, algorithm.c, algorithm.c, preference,
                                   1, &found, &count),
        "cublasLtMatmulAlgoGetHeuristic", p);
  check(cublas_lt().destroy_preference(preference), "cublasLtMatmulPreferenceDestroy", p);
  check(count > 0 ? found.state : CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic", p);
  algorithm.algorithm = found.algo;
  return algorithm;
}

struct Engine {
  std::mutex mutex;
  cublasLtHandle_t handle = nullptr;
  Tensor workspace;
  std::map<Key, Algorithm> algorithms;
  bool tf32 = false;
};

// Never destroyed: the driver cleans up at exit.
Engine& engine() {
  static Engine* const instance = new Engine;
  return *instance;
}

}  // namespace

void allow_tf32(bool allowed) { engine().tf32 = allowed; }

void matmul(const MatmulOperands& p) {
  if (small_matmul_fits(p)) return small_matmul(p);
  Engine& self = engine();
  const std::lock_guard lock(self.mutex);
  if (self.handle == nullptr) {
    cudaStream_t prepared = stream();  // prepares the device first, because the handle belongs to it
    (void)prepared;
    check(cublas_lt().create(&self.handle), "cublasLtCreate", p);
    const MemoryLabel label("matmul workspace");
    self.workspace = Tensor::empty({kGpuMatmulWorkspace / 4}, DType::f32, p.device);
  }
  const Key key = key_of(p, self.tf32);
  auto algorithm = self.algorithms.find(key);
  if (algorithm == self.algorithms.end())
    algorithm = self.algorithms.emplace(key, choose_algorithm(self.handle, p, self.tf32)).first;
  const float one = 1, beta = p.accumulate ? 1 : 0;
  const auto multiply = [&, &of = algorithm->second] {
    return cublas_lt().matmul(self.handle, of.operation, &one, p.b, of.b, p.a, of.a, &beta, p.c, of.c, p.c, of.c, &of.algorithm,
                              self.workspace.raw_data(), size_t(kGpuMatmulWorkspace), stream());
  };
  cublasStatus_t status = multiply();
  if (status != CUBLAS_STATUS_SUCCESS && !echo::cuda::is_recording()) [[unlikely]] {
    // The library may lack memory for a kernel's code, because the pool has cached it (with_memory_released()). If the device
    // itself has failed, waiting fails too, and the library's own error is reported.
    (void)cudaGetLastError();
    if (cudaStreamSynchronize(stream()) == cudaSuccess) {
      echo::cuda::release_cached_memory();
      status = multiply();
    }
  }
  check(status, "cublasLtMatmul", p);
}

}  // namespace echo::kernels::cuda
