#include "tensor/cuda_context.h"

#include <mutex>

#include "base/environment.h"
#include "tensor/cuda_error.h"

namespace echo::cuda {
namespace {

constexpr int kOldestMajor = 8;  // compute capability 8.0, the oldest that the kernels support

std::string too_old(const cudaDeviceProp& gpu) {
  return concat(gpu.name, " has compute capability ", gpu.major, ".", gpu.minor, ", this program needs ", kOldestMajor,
                ".0 (Ampere) or newer");
}

}  // namespace

DeviceCount device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) {
    cudaDeviceProp found;
    for (int i = 0; i < count; ++i) {
      ECHO_CUDA(cudaGetDeviceProperties(&found, i));
      if (found.major >= kOldestMajor) return {count, i, ""};
    }
    return {0, 0, too_old(found)};
  }
  (void)cudaGetLastError();  // without a GPU this is not an error; later calls must not report it
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (driver == 0) return {0, 0, "no NVIDIA driver"};
    return {0, 0,
            concat("the NVIDIA driver supports CUDA ", driver / 1000, ".", driver % 1000 / 10, ", this program needs ",
                   runtime / 1000, ".", runtime % 1000 / 10, ": update the driver")};
  }
  if (status == cudaErrorNoDevice || status == cudaSuccess) return {0, 0, "no GPU"};
  return {0, 0, concat("no usable GPU (", cudaGetErrorString(status), ")")};
}

const Context& context(int index) {
  // Never destroyed, because tensors in static storage may be freed after every other static object. The driver cleans up at
  // exit.
  static Context& s = *new Context;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (s.index >= 0) {
    ECHO_CHECK(index < 0 || index == s.index, "this process computes on cuda:", s.index, ", not on cuda:", index);
    return s;
  }
  const DeviceCount devices = device_count();
  if (index < 0) index = devices.first;
  if (index >= devices.count)
    fail(ExitCode::device, "cuda:", index, ": ",
         devices.count == 0 ? devices.reason : concat("there are ", devices.count, " GPUs"), "; write device: cpu",
         devices.count == 0 ? "" : " or a smaller number");
  cudaDeviceProp found;
  ECHO_CUDA(cudaGetDeviceProperties(&found, index));
  if (found.major < kOldestMajor)
    fail(ExitCode::device, "cuda:", index, ": ", too_old(found), "; choose another, or write device: cpu");
  ECHO_CUDA(cudaSetDevice(index));
  s.properties = {found.name,
                  found.major,
                  found.minor,
                  found.multiProcessorCount,
                  int64_t(found.totalGlobalMem),
                  int64_t(found.l2CacheSize),
                  int64_t(found.sharedMemPerBlockOptin)};
  ECHO_CUDA(cudaStreamCreateWithFlags(&s.stream, cudaStreamNonBlocking));
  ECHO_CUDA(cudaDeviceGetDefaultMemPool(&s.pool, index));
  // The pool keeps freed memory, because a training step requests the same sizes again and again.
  uint64_t threshold = UINT64_MAX;
  ECHO_CUDA(cudaMemPoolSetAttribute(s.pool, cudaMemPoolAttrReleaseThreshold, &threshold));
  s.index = index;
  return s;
}

const DeviceProperties& properties() { return context().properties; }

void use_device(int index) { context(index); }

bool may_launch_early() {
  static const bool result = properties().major >= 9 && !is_switched_off("ECHOATT_EARLY");
  return result;
}

void synchronize() { check(cudaStreamSynchronize(stream()), "waiting for the GPU"); }

void release_cached_memory() {
  synchronize();
  ECHO_CUDA(cudaMemPoolTrimTo(context().pool, 0));
}

}  // namespace echo::cuda
