// Describes a tensor to the copy engine. The driver has the function for that. It is looked up by name, so that programs start
// on machines without a driver.
#include "kernels/cuda/bulk_copy.cuh"
#include "tensor/cuda_error.h"

namespace echo::kernels::cuda {
namespace {

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                            const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

Encode encode_function() {
  static const Encode function = [] {
    void* address = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    ECHO_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &address, 12000, cudaEnableDefault, &result));
    ECHO_CHECK(result == cudaDriverEntryPointSuccess && address != nullptr, "the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<Encode>(address);
  }();
  return function;
}

}  // namespace

CUtensorMap tile_map(bfloat16* data, const std::array<int64_t, 4>& sizes, const std::array<int64_t, 3>& strides, int rows) {
  cuuint64_t extents[4], bytes[3];
  for (size_t i = 0; i < 4; ++i) extents[i] = cuuint64_t(sizes[i]);
  // The stride of a dimension of one entry is never used, but must be valid, so the stride of a dense tensor is given.
  for (size_t i = 0; i < 3; ++i)
    bytes[i] = sizes[i + 1] > 1 ? cuuint64_t(strides[i]) * sizeof(bfloat16)
               : i == 0         ? extents[0] * sizeof(bfloat16)
                                : bytes[i - 1] * extents[i];
  const cuuint32_t box[4] = {64, 1, cuuint32_t(rows), 1}, steps[4] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result = encode_function()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, data, extents, bytes, box, steps,
                                            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  ECHO_CHECK(result == CUDA_SUCCESS, "cuTensorMapEncodeTiled: error ", int(result), " for ", sizes[3], " x ", sizes[2], " x ",
             sizes[1], " x ", sizes[0], " elements, tiles of ", rows, " rows");
  return map;
}

}  // namespace echo::kernels::cuda
