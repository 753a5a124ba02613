#include <cublasLt.h>

#include <cstring>
#include <utility>
#include <vector>

#include "tensor/bfloat16.h"

namespace {

int handle_object;

float element(const void* matrix, const EmulatedMatrixLayout& layout, bool transposed, uint64_t row, uint64_t column) {
  if (transposed) std::swap(row, column);
  const size_t place = size_t(column) * size_t(layout.stride) + size_t(row);
  if (layout.type == CUDA_R_16BF) return float(static_cast<const echo::bfloat16*>(matrix)[place]);
  return static_cast<const float*>(matrix)[place];
}

// One thread of the emulated device computes the whole product, so memory is checked and protected as for any kernel.
void multiply(EmulatedMatmulDescription description, float alpha, const void* a, EmulatedMatrixLayout a_layout, const void* b,
              EmulatedMatrixLayout b_layout, float beta, void* d, EmulatedMatrixLayout d_layout) {
  const bool ta = description.transpose_a == CUBLAS_OP_T, tb = description.transpose_b == CUBLAS_OP_T;
  const uint64_t m = d_layout.rows, n = d_layout.columns, k = ta ? a_layout.rows : a_layout.columns;
  std::vector<float> row(k);
  for (uint64_t i = 0; i < m; ++i) {
    for (uint64_t p = 0; p < k; ++p) row[p] = element(a, a_layout, ta, i, p);
    for (uint64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (uint64_t p = 0; p < k; ++p) sum += row[p] * element(b, b_layout, tb, p, j);
      const size_t place = size_t(j) * size_t(d_layout.stride) + size_t(i);
      const float result = alpha * sum + (beta != 0 ? beta * element(d, d_layout, false, i, j) : 0.0f);
      if (d_layout.type == CUDA_R_16BF)
        static_cast<echo::bfloat16*>(d)[place] = echo::bfloat16(result);
      else
        static_cast<float*>(d)[place] = result;
    }
  }
}

}  // namespace

EmulatedCublasLt emulated_cublas_lt;

const char* cublasLtGetStatusString(cublasStatus_t) { return "emulated status"; }
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return *handle = &handle_object, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute, cudaDataType) {
  return *description = new EmulatedMatmulDescription{.compute = compute}, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  if (bytes != sizeof(cublasOperation_t)) return CUBLAS_STATUS_INVALID_VALUE;
  (attribute == CUBLASLT_MATMUL_DESC_TRANSA ? description->transpose_a : description->transpose_b) =
      *static_cast<const cublasOperation_t*>(value);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows, uint64_t columns,
                                          int64_t stride) {
  if (stride < int64_t(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  return *layout = new EmulatedMatrixLayout{type, rows, columns, stride}, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return *preference = &handle_object, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  if (bytes != (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8u : 4u)) return CUBLAS_STATUS_INVALID_VALUE;
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) std::memcpy(&emulated_cublas_lt.workspace_bytes, value, bytes);
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) std::memcpy(&emulated_cublas_lt.reduction_schemes, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int, cublasLtMatmulHeuristicResult_t* results,
                                              int* found) {
  ++emulated_cublas_lt.searches;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t*, void*, size_t, cudaStream_t) {
  const bool ta = description->transpose_a == CUBLAS_OP_T, tb = description->transpose_b == CUBLAS_OP_T;
  const uint64_t m = ta ? a_layout->columns : a_layout->rows, k = ta ? a_layout->rows : a_layout->columns;
  const uint64_t b_rows = tb ? b_layout->columns : b_layout->rows, n = tb ? b_layout->rows : b_layout->columns;
  if (c != d || a_layout->type != b_layout->type || d_layout->rows != m || d_layout->columns != n || b_rows != k)
    return CUBLAS_STATUS_INVALID_VALUE;
  emulated_cublas_lt.compute = description->compute;
  if (emulated_cublas_lt.answers > 0) return --emulated_cublas_lt.answers, emulated_cublas_lt.answer;
  for (const void* address : {a, b, static_cast<const void*>(d)}) cuda_emulation::check_device_pointer(address);
  cuda_emulation::submit(1, 1, 0,
                         [=, description = *description, a_layout = *a_layout, b_layout = *b_layout, d_layout = *d_layout,
                          alpha_value = *static_cast<const float*>(alpha), beta_value = *static_cast<const float*>(beta)] {
                           multiply(description, alpha_value, a, a_layout, b, b_layout, beta_value, d, d_layout);
                         });
  return CUBLAS_STATUS_SUCCESS;
}
