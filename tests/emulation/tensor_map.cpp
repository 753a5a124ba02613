#include <cuda.h>
#include <cuda_runtime.h>

#include <cstring>

// The driver's function that describes a tensor to the copy engine, with the requirements of its manual.
namespace {

CUresult encode(CUtensorMap* map, CUtensorMapDataType, cuuint32_t rank, void* data, const cuuint64_t* sizes,
                const cuuint64_t* strides, const cuuint32_t* box, const cuuint32_t* steps, CUtensorMapInterleave,
                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  bool valid = rank == 4 && reinterpret_cast<uintptr_t>(data) % 16 == 0 && swizzle == CU_TENSOR_MAP_SWIZZLE_128B;
  for (int i = 0; i < 4; ++i)
    valid = valid && sizes[i] > 0 && sizes[i] <= cuuint64_t(1) << 32 && box[i] > 0 && box[i] <= 256 && steps[i] == 1;
  for (int i = 0; i < 3; ++i) valid = valid && strides[i] % 16 == 0 && strides[i] < cuuint64_t(1) << 40;
  valid = valid && strides[0] >= sizes[0] * 2;
  valid = valid && box[0] == 64 && box[1] == 1 && box[3] == 1;  // all that CUtensorMap of the emulated device can say
  if (!valid) return CUDA_ERROR_INVALID_VALUE;
  map->data = static_cast<std::byte*>(data);
  std::memcpy(map->sizes, sizes, sizeof map->sizes);
  std::memcpy(map->strides, strides, sizeof map->strides);
  map->rows = box[2];
  return CUDA_SUCCESS;
}

}  // namespace

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** address, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const bool known = std::strcmp(name, "cuTensorMapEncodeTiled") == 0;
  *result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  *address = known ? reinterpret_cast<void*>(&encode) : nullptr;
  return cudaSuccess;
}
