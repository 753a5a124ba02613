#include "tensor/cuda_memory.h"

#include <array>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/environment.h"
#include "tensor/cuda_context.h"
#include "tensor/cuda_error.h"
#include "tensor/memory_account.h"

namespace echo::cuda {
namespace {

// Copies to the device pass through page-locked slots: they do not wait for the device, and their source may change at once,
// which CUDA does not promise for other memory. A slot is used again only when its last copy is done.
class PinnedRing {
 public:
  static constexpr int64_t kSlotBytes = 1 << 20;
  static constexpr size_t kSlots = 8;

  void copy(void* device, const void* host, int64_t bytes, cudaStream_t stream) {
    Slot& slot = slots_[next_++ % kSlots];
    if (slot.address == nullptr) {
      ECHO_CUDA(cudaMallocHost(&slot.address, size_t(kSlotBytes)));
      ECHO_CUDA(cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming));
    } else {
      ECHO_CUDA(cudaEventSynchronize(slot.done));
    }
    std::memcpy(slot.address, host, size_t(bytes));
    ECHO_CUDA(cudaMemcpyAsync(device, slot.address, size_t(bytes), cudaMemcpyHostToDevice, stream));
    ECHO_CUDA(cudaEventRecord(slot.done, stream));
  }

 private:
  struct Slot {
    void* address = nullptr;
    cudaEvent_t done = nullptr;
  };
  std::array<Slot, kSlots> slots_;
  size_t next_ = 0;
};

constexpr int kOldestMajor = 8;  // the compute capability for which kernels are written

std::string too_old(const cudaDeviceProp& gpu) {
  return concat(gpu.name, " has compute capability ", gpu.major, ".", gpu.minor, ", this program needs ", kOldestMajor,
                ".0 (Ampere) or newer");
}

struct State {
  std::mutex mutex;
  int index = -1;
  cudaStream_t stream = nullptr;
  cudaMemPool_t pool = nullptr;
  DeviceProperties properties;
  PinnedRing ring;
  std::unique_ptr<RecordedMemory> recording;  // while a graph records
  std::vector<void*> kept;                    // freed while a graph records, and from before
  std::vector<std::unique_ptr<RecordedMemory>> abandoned;
  MemoryAccount account;
};

// Never destroyed: tensors in static storage may be freed after every other static, and the driver ends with the process.
State& state() {
  static State* const instance = new State;
  return *instance;
}

State& prepared(int index) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
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
  // The pool keeps what is freed: a training step asks for the same sizes again and again.
  uint64_t threshold = UINT64_MAX;
  ECHO_CUDA(cudaMemPoolSetAttribute(s.pool, cudaMemPoolAttrReleaseThreshold, &threshold));
  s.index = index;
  return s;
}

int64_t reserved_by_pool(const State& s) {
  uint64_t reserved = 0;
  ECHO_CUDA(cudaMemPoolGetAttribute(s.pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
  return int64_t(reserved);
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
  (void)cudaGetLastError();  // having no GPU is not an error that later calls should report
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

const DeviceProperties& properties() { return prepared(-1).properties; }

void use_device(int index) { prepared(index); }

cudaStream_t stream() { return prepared(-1).stream; }

void begin_recording() {
  State& s = prepared(-1);
  s.recording = std::make_unique<RecordedMemory>(s.account, s.pool);
}

std::unique_ptr<RecordedMemory> end_recording() noexcept {
  State& s = state();
  for (void* const address : std::exchange(s.kept, {})) (void)cudaFreeAsync(address, s.stream);
  return std::move(s.recording);
}

bool may_launch_early() {
  static const bool result = properties().major >= 9 && !is_switched_off("ECHOATT_EARLY");
  return result;
}

bool is_recording() { return state().recording != nullptr; }

void abandon(std::unique_ptr<RecordedMemory> memory) { state().abandoned.push_back(std::move(memory)); }

Block allocate(int64_t bytes, int index) {
  ECHO_CHECK(bytes >= 0, "allocate: negative size ", bytes);
  State& s = prepared(index);
  Block block{nullptr, std::max<int64_t>(bytes, 1), 0};
  if (s.recording != nullptr) {
    block.address = s.recording->take(bytes);
    if (block.address == nullptr) s.account.fail_out_of_memory({DeviceKind::cuda, s.index}, bytes, free_memory());
    return block;
  }
  // The pool's own free memory may lie in pieces that are too small.
  const cudaError_t status =
      with_memory_released([&] { return cudaMallocAsync(&block.address, size_t(block.bytes), s.stream); });
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    s.account.fail_out_of_memory({DeviceKind::cuda, s.index}, bytes, free_memory());
  }
  check(status, "cudaMallocAsync of ", bytes, " bytes");
  block.label = s.account.add(block.bytes, bytes);
  return block;
}

void free(const Block& block) noexcept {
  State& s = state();
  if (s.recording != nullptr && s.recording->give_back(block.address)) return;
  for (const auto& memory : s.abandoned)
    if (memory->give_back(block.address)) return;
  s.account.remove(block.bytes, block.label);
  if (s.recording != nullptr) return s.kept.push_back(block.address);
  (void)cudaFreeAsync(block.address, s.stream);  // fails only after an error that ends the run anyway
}

MemoryStatistics memory_statistics() {
  State& s = prepared(-1);
  const MemoryStatistics without_cache = s.account.statistics(0);
  return s.account.statistics(std::max<int64_t>(0, reserved_by_pool(s) - without_cache.in_use));
}

void reset_memory_peak() { prepared(-1).account.reset_peak(); }

void release_cached_memory() {
  synchronize();
  ECHO_CUDA(cudaMemPoolTrimTo(prepared(-1).pool, 0));
}

int64_t free_memory() {
  State& s = prepared(-1);
  size_t available = 0, total = 0;
  ECHO_CUDA(cudaMemGetInfo(&available, &total));
  return int64_t(available) + std::max<int64_t>(0, reserved_by_pool(s) - s.account.statistics(0).in_use);
}

void copy_to_device(void* device, const void* host, int64_t bytes) {
  if (bytes == 0) return;
  State& s = prepared(-1);
  ECHO_CHECK(s.recording == nullptr, "recorded work reads the host's memory, which may be gone when it runs");
  const std::lock_guard lock(s.mutex);
  for (int64_t done = 0; done < bytes; done += PinnedRing::kSlotBytes)
    s.ring.copy(static_cast<std::byte*>(device) + done, static_cast<const std::byte*>(host) + done,
                std::min(PinnedRing::kSlotBytes, bytes - done), s.stream);
}

void copy_to_host(void* host, const void* device, int64_t bytes) {
  if (bytes == 0) return;
  State& s = prepared(-1);
  check(cudaMemcpyAsync(host, device, size_t(bytes), cudaMemcpyDeviceToHost, s.stream), "copy of ", bytes,
        " bytes from the GPU");
  synchronize();
}

void copy_on_device(void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDeviceToDevice, stream()), "copy of ", bytes, " bytes on the GPU");
}

void fill_zero(void* device, int64_t bytes) {
  if (bytes == 0) return;
  check(cudaMemsetAsync(device, 0, size_t(bytes), stream()), "clearing ", bytes, " bytes on the GPU");
}

void synchronize() { check(cudaStreamSynchronize(stream()), "waiting for the GPU"); }

}  // namespace echo::cuda
