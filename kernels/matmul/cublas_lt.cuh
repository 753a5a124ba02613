#pragma once

#include <cublasLt.h>

namespace echo::kernels::cuda {

// The functions of cuBLASLt that this project calls. The library is opened at the first product on a GPU. It has half a
// gigabyte: linked in, it would cost each start of a program 0.1 s and 200 MB, and programs would not start on machines without
// it.
struct CublasLt {
  decltype(&cublasLtGetStatusString) status_string;
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmulDescCreate) create_operation;
  decltype(&cublasLtMatmulDescSetAttribute) set_operation_attribute;
  decltype(&cublasLtMatrixLayoutCreate) create_layout;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference_attribute;
  decltype(&cublasLtMatmulAlgoGetHeuristic) find_algorithm;
  decltype(&cublasLtMatmul) matmul;
};

// Throws Error (device) when the library is missing or lacks a function.
const CublasLt& cublas_lt();

}  // namespace echo::kernels::cuda
