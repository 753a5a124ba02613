// Casts on a GPU: kernels/cuda/map.cuh with the identity function. 6 bytes per element between f32 and bf16. Equal dtypes are
// copied with cudaMemcpy.
#include "kernels/cast.h"
#include "kernels/cuda/map.cuh"
#include "tensor/cuda_memory.h"

namespace echo::kernels::cuda {
namespace {

struct Keep {
  static constexpr int kInputs = 1;
  static constexpr bool kReadsOutput = false;
  __device__ float operator()(float value) const { return value; }
};

}  // namespace

void cast(Tensor& destination, const Tensor& source) {
  const int64_t count = source.elements();
  if (count == 0 || destination.raw_data() == source.raw_data()) return;
  if (destination.dtype() == source.dtype())
    return echo::cuda::copy_on_device(destination.raw_data(), source.raw_data(), source.bytes());
  dispatch_gpu_float("cast", destination.dtype(), [&]<class To>() {
    dispatch_gpu_float("cast", source.dtype(), [&]<class From>() {
      if constexpr (!std::is_same_v<To, From>)
        map(destination.data<To>(), source.data<From>(), static_cast<const From*>(nullptr), count, Keep{});
    });
  });
}

}  // namespace echo::kernels::cuda
