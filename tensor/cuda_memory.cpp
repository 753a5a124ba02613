#include "tensor/cuda_memory.h"

#include <array>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tensor/cuda_context.h"
#include "tensor/cuda_error.h"
#include "tensor/cuda_recorded_memory.h"
#include "tensor/memory_account.h"

namespace echo::cuda {
namespace {

// Copies to the device go through page-locked slots. So they do not wait for the device, and the caller may change the source
// at once. CUDA does not promise either for pageable memory. A slot is used again only after its last copy has finished.
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

struct State {
  std::mutex mutex;  // of the ring
  PinnedRing ring;
  std::unique_ptr<RecordedMemory> recording;  // not null while a graph records
  std::vector<void*> kept;                    // allocated before a recording, freed during it
  std::vector<std::unique_ptr<RecordedMemory>> abandoned;
  MemoryAccount account;
};

// Never destroyed, because tensors in static storage may be freed after every other static object.
State& state() {
  static State* const instance = new State;
  return *instance;
}

int64_t reserved_by_pool() {
  uint64_t reserved = 0;
  ECHO_CUDA(cudaMemPoolGetAttribute(context().pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
  return int64_t(reserved);
}

}  // namespace

void begin_recording() {
  State& s = state();
  s.recording = std::make_unique<RecordedMemory>(s.account, context().pool);
}

std::unique_ptr<RecordedMemory> end_recording() noexcept {
  State& s = state();
  for (void* const address : std::exchange(s.kept, {})) (void)cudaFreeAsync(address, stream());
  return std::move(s.recording);
}

bool is_recording() { return state().recording != nullptr; }

void abandon(std::unique_ptr<RecordedMemory> memory) { state().abandoned.push_back(std::move(memory)); }

Block allocate(int64_t bytes, int index) {
  ECHO_CHECK(bytes >= 0, "allocate: negative size ", bytes);
  const Context& gpu = context(index);
  State& s = state();
  Block block{nullptr, std::max<int64_t>(bytes, 1), 0};
  if (s.recording != nullptr) {
    block.address = s.recording->take(bytes);
    if (block.address == nullptr) s.account.fail_out_of_memory({DeviceKind::cuda, gpu.index}, bytes, free_memory());
    return block;
  }
  // The pool's free memory may be in pieces that are too small.
  const cudaError_t status =
      with_memory_released([&] { return cudaMallocAsync(&block.address, size_t(block.bytes), gpu.stream); });
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    s.account.fail_out_of_memory({DeviceKind::cuda, gpu.index}, bytes, free_memory());
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
  (void)cudaFreeAsync(block.address, stream());  // fails only after an error that ends the run anyway
}

MemoryStatistics memory_statistics() {
  const MemoryAccount& account = state().account;
  const MemoryStatistics without_cache = account.statistics(0);
  return account.statistics(std::max<int64_t>(0, reserved_by_pool() - without_cache.in_use));
}

void reset_memory_peak() { state().account.reset_peak(); }

int64_t free_memory() {
  context();  // the device must be chosen before it is asked
  size_t available = 0, total = 0;
  ECHO_CUDA(cudaMemGetInfo(&available, &total));
  return int64_t(available) + std::max<int64_t>(0, reserved_by_pool() - state().account.statistics(0).in_use);
}

void copy_to_device(void* device, const void* host, int64_t bytes) {
  if (bytes == 0) return;
  State& s = state();
  ECHO_CHECK(s.recording == nullptr,
             "copy to the GPU: not allowed while a graph records, because the host's memory may be gone when the graph runs");
  const std::lock_guard lock(s.mutex);
  for (int64_t done = 0; done < bytes; done += PinnedRing::kSlotBytes)
    s.ring.copy(static_cast<std::byte*>(device) + done, static_cast<const std::byte*>(host) + done,
                std::min(PinnedRing::kSlotBytes, bytes - done), stream());
}

void copy_to_host(void* host, const void* device, int64_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(host, device, size_t(bytes), cudaMemcpyDeviceToHost, stream()), "copy of ", bytes,
        " bytes from the GPU");
  synchronize();
}

bool lock_pages(void* host, int64_t bytes) {
  const bool locked = cudaHostRegister(host, size_t(bytes), cudaHostRegisterDefault) == cudaSuccess;
  if (!locked) (void)cudaGetLastError();
  return locked;
}

void unlock_pages(void* host) noexcept { (void)cudaHostUnregister(host); }

void copy_on_device(void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDeviceToDevice, stream()), "copy of ", bytes, " bytes on the GPU");
}

void fill_zero(void* device, int64_t bytes) {
  if (bytes == 0) return;
  check(cudaMemsetAsync(device, 0, size_t(bytes), stream()), "clearing ", bytes, " bytes on the GPU");
}

}  // namespace echo::cuda
