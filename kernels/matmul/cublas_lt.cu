#include "kernels/matmul/cublas_lt.cuh"

#if defined(__CUDACC__)
#include <dlfcn.h>
#endif

#include <string>

#include "base/error.h"

namespace echo::kernels::cuda {
namespace {

CublasLt open_library() {
  CublasLt functions = {};
#if defined(__CUDACC__)
  const std::string name = concat("libcublasLt.so.", CUBLAS_VER_MAJOR);
  void* const library = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail(ExitCode::device, name, " cannot be opened (", ::dlerror(),
         "); it is part of the CUDA Toolkit: install it or add its folder to LD_LIBRARY_PATH, or write device: cpu");
  const auto find = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, symbol));
    if (function == nullptr) fail(ExitCode::device, name, ": has no ", symbol, "; its version does not match this program");
  };
#define ECHO_FIND(member, symbol) find(functions.member, #symbol)
#else
#define ECHO_FIND(member, symbol) functions.member = &symbol
#endif
  ECHO_FIND(status_string, cublasLtGetStatusString);
  ECHO_FIND(create, cublasLtCreate);
  ECHO_FIND(create_operation, cublasLtMatmulDescCreate);
  ECHO_FIND(set_operation_attribute, cublasLtMatmulDescSetAttribute);
  ECHO_FIND(create_layout, cublasLtMatrixLayoutCreate);
  ECHO_FIND(create_preference, cublasLtMatmulPreferenceCreate);
  ECHO_FIND(destroy_preference, cublasLtMatmulPreferenceDestroy);
  ECHO_FIND(set_preference_attribute, cublasLtMatmulPreferenceSetAttribute);
  ECHO_FIND(find_algorithm, cublasLtMatmulAlgoGetHeuristic);
  ECHO_FIND(matmul, cublasLtMatmul);
#undef ECHO_FIND
  return functions;
}

}  // namespace

const CublasLt& cublas_lt() {
  static const CublasLt functions = open_library();
  return functions;
}

}  // namespace echo::kernels::cuda
