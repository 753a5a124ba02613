// The CUDA runtime of the emulated device. Memory is one reserved range, accessible only to kernels and copies. Everything is
// done in order, and at once, except copies from the host. Environment variables change the emulated machine:
//   CUDA_EMULATION_DEVICES=N       number of devices (1), of which a process uses one
//   CUDA_EMULATION_CAPABILITY=75   their compute capability (90), times ten
//   CUDA_EMULATION_SHARED=N        maximum shared memory of a block, in KiB (227)
//   CUDA_EMULATION_COUNT=N         the query for the number of devices fails with error N
//   CUDA_EMULATION_DRIVER=N        the CUDA version that the driver supports (13000); 0: there is no driver
//   CUDA_EMULATION_FAILS_AFTER=N   the device fails permanently at the wait after N successful ones
#include <cuda_runtime.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

// Memory that was allocated and freed during the capture of a graph belongs to the graph, which uses it again in each run.
struct CUgraph_st {
  std::vector<std::function<void()>> work;
  std::vector<void*> made, freed;
  bool is_valid = true;
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> work;
  std::vector<void*> freed;
};

namespace {

constexpr size_t kReserved = size_t{16} << 30;
constexpr size_t kPage = 4096;
constexpr size_t kFilled = 8 << 20;
constexpr size_t kDistance = 256;  // between two allocations, and the alignment of each

// The device's memory. It is allocated from the beginning on, so that little has to be protected. New and reused memory is
// filled with NaN bits.
struct Memory {
  std::byte* base = nullptr;
  size_t used = 0;
  std::map<void*, size_t> live;
  std::map<size_t, size_t> free;  // free ranges by their beginning; no two are adjacent
  std::mutex mutex;
  int open = 0;

  Memory() {
    void* address = ::mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) std::abort();
    base = static_cast<std::byte*>(address);
  }
  bool holds(const void* address) const { return address >= base && address < base + kReserved; }
  static size_t pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }
  void protect(int protection) {
    if (used > 0) ::mprotect(base, pages(used), protection);
  }
  // The first free range that is large enough, or new memory. Null when there is none.
  std::byte* take(size_t bytes) {
    for (auto range = free.begin(); range != free.end(); ++range) {
      const auto [begin, size] = *range;
      if (size < bytes) continue;
      free.erase(range);
      if (size > bytes) free.emplace(begin + bytes, size - bytes);
      return base + begin;
    }
    if (used + bytes > kReserved) return nullptr;
    used += bytes;
    return base + used - bytes;
  }
  void give_back(size_t begin, size_t size) {
    const auto after = free.find(begin + size);
    if (after != free.end()) {
      size += after->second;
      free.erase(after);
    }
    const auto next = free.lower_bound(begin);
    if (next != free.begin() && std::prev(next)->first + std::prev(next)->second == begin) {
      begin = std::prev(next)->first;
      size += std::prev(next)->second;
    }
    free[begin] = size;
    if (begin + size != used) return;
    free.erase(begin);
    const size_t before = pages(used);
    used = begin;
    if (before == pages(used)) return;
    ::mprotect(base + pages(used), before - pages(used), PROT_NONE);
    ::madvise(base + pages(used), before - pages(used), MADV_DONTNEED);
  }
};

Memory& memory() {
  static Memory* const instance = new Memory;
  return *instance;
}

// While an object of this class lives, device memory can be accessed.
class Access {
 public:
  Access() {
    if (memory().open++ == 0) memory().protect(PROT_READ | PROT_WRITE);
  }
  ~Access() {
    if (--memory().open == 0) memory().protect(PROT_NONE);
  }
};

CUgraph_st* capture = nullptr;

// Work of a stream that is done when somebody asks for it. A stream is such a list; that of the stream that computes is empty.
struct LaterWork {
  std::deque<std::function<bool()>> waiting;
  size_t done = 0;
};

int setting(const char* name, int otherwise) {
  const char* const value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoi(value);
}

int shared_limit() { return setting("CUDA_EMULATION_SHARED", 227) << 10; }

// A call that is not allowed during the capture of a graph. It ends the capture.
cudaError_t invalidate_capture() { return capture->is_valid = false, cudaErrorStreamCaptureUnsupported; }

// The last copy from the host. It reads the host's memory as late as possible: just before the next operation.
std::function<void()> late_copy;

void finish_copy() {
  if (late_copy) std::exchange(late_copy, nullptr)();
}

template <class Work>
cudaError_t enqueue(Work work) {
  finish_copy();
  if (capture != nullptr)
    capture->work.emplace_back(work);
  else
    work();
  return cudaSuccess;
}

}  // namespace

// A point in a stream.
struct CUevent_st {
  LaterWork* stream = nullptr;
  size_t count = 0;  // of the stream's works before it

  bool is_reached() const {
    if (stream == nullptr) return true;
    for (auto& waiting = stream->waiting; stream->done < count && waiting.front()(); ++stream->done) waiting.pop_front();
    return stream->done >= count;
  }
};

namespace cuda_emulation {

void submit(dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> kernel) {
  if (shared_bytes > size_t(shared_limit()))
    throw std::runtime_error("emulated launch: more shared memory than the device has");
  enqueue([=] {
    const Access access;
    run_grid(grid, block, shared_bytes, kernel);
  });
}

void add_later_work(const void* stream, std::function<bool()> work) {
  static_cast<LaterWork*>(const_cast<void*>(stream))->waiting.push_back(std::move(work));
}

void copy_device_bytes(void* to, const void* from, size_t bytes) {
  const Access access;
  std::memcpy(to, from, bytes);
}

void check_device_pointer(const void* address) {
  if (address != nullptr && !memory().holds(address))
    throw std::runtime_error("emulated launch: a pointer is not device memory");
}

}  // namespace cuda_emulation

cudaError_t cudaGetDeviceCount(int* count) {
  *count = setting("CUDA_EMULATION_DEVICES", 1);
  return cudaError_t(setting("CUDA_EMULATION_COUNT", cudaSuccess));
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "emulated");
  properties->totalGlobalMem = kReserved;
  properties->sharedMemPerBlockOptin = size_t(shared_limit());
  properties->major = setting("CUDA_EMULATION_CAPABILITY", 90) / 10;
  properties->minor = setting("CUDA_EMULATION_CAPABILITY", 90) % 10;
  properties->multiProcessorCount = 4;
  properties->l2CacheSize = 50 << 20;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device >= 0 && device < setting("CUDA_EMULATION_DEVICES", 1) ? cudaSuccess : cudaErrorInvalidDevice;
}
cudaError_t cudaDriverGetVersion(int* version) { return *version = setting("CUDA_EMULATION_DRIVER", 13000), cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "emulated error";
}
const char* cudaGetErrorName(cudaError_t) { return "cudaErrorEmulated"; }
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *total_bytes = kReserved;
  *free_bytes = kReserved - memory().used;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) { return *pool = nullptr, cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
  return *static_cast<uint64_t*>(value) = memory().used, cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

namespace {

cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeThreadLocal;

cudaError_t make_memory(void** address, size_t bytes) {
  Memory& device = memory();
  const std::lock_guard lock(device.mutex);
  const size_t reserved = (std::max<size_t>(bytes, 1) + 2 * kDistance - 1) / kDistance * kDistance;
  if (reserved > kReserved || (*address = device.take(reserved)) == nullptr) return cudaErrorMemoryAllocation;
  const Access access;
  device.protect(PROT_READ | PROT_WRITE);  // the range may just have become larger
  ASAN_UNPOISON_MEMORY_REGION(*address, bytes);
  // NaN, so that reads of memory that was never written are noticed. Workspaces are left untouched, because protecting existing
  // pages takes time at each launch.
  if (bytes <= kFilled) std::memset(*address, 0xff, bytes);
  ASAN_POISON_MEMORY_REGION(static_cast<std::byte*>(*address) + bytes, reserved - bytes);
  device.live[*address] = reserved;
  return cudaSuccess;
}

cudaError_t drop_memory(void* address) {
  finish_copy();
  Memory& device = memory();
  const std::lock_guard lock(device.mutex);
  const auto found = device.live.find(address);
  if (found == device.live.end()) return cudaErrorInvalidValue;
  ASAN_POISON_MEMORY_REGION(address, found->second);
  const size_t size = found->second;
  device.live.erase(found);
  device.give_back(size_t(static_cast<std::byte*>(address) - device.base), size);
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaMallocAsync(void** address, size_t bytes, cudaStream_t) {
  const cudaError_t status = make_memory(address, bytes);
  if (status == cudaSuccess && capture != nullptr) capture->made.push_back(*address);
  return status;
}
cudaError_t cudaFreeAsync(void* address, cudaStream_t) {
  if (capture == nullptr) return drop_memory(address);
  if (std::erase(capture->made, address) == 0) return capture->is_valid = false, cudaErrorInvalidValue;
  return capture->freed.push_back(address), cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return std::swap(*mode, capture_mode), cudaSuccess;
}
cudaError_t cudaMalloc(void** address, size_t bytes) {
  if (capture != nullptr && capture_mode != cudaStreamCaptureModeRelaxed) return invalidate_capture();
  return make_memory(address, bytes);
}
cudaError_t cudaFree(void* address) { return drop_memory(address); }

cudaError_t cudaMallocHost(void** address, size_t bytes) {
  return (*address = std::malloc(bytes)) != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaHostRegister(void* address, size_t bytes, unsigned) {
  return address != nullptr && bytes > 0 ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaHostUnregister(void*) { return cudaSuccess; }

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  if (memory().holds(to) != (kind != cudaMemcpyDeviceToHost) || memory().holds(from) != (kind != cudaMemcpyHostToDevice))
    return cudaErrorInvalidValue;
  // The host's memory would be read or written again in each run of the graph.
  if (capture != nullptr && kind != cudaMemcpyDeviceToDevice) return invalidate_capture();
  const auto copy = [=] {
    const Access access;
    std::memcpy(to, from, bytes);
  };
  if (kind != cudaMemcpyHostToDevice) return enqueue(copy);
  finish_copy();
  return late_copy = copy, cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t) {
  if (!memory().holds(address)) return cudaErrorInvalidValue;
  return enqueue([=] {
    const Access access;
    std::memset(address, value, bytes);
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return *stream = reinterpret_cast<cudaStream_t>(new LaterWork), cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete reinterpret_cast<LaterWork*>(stream), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  static int waits = 0;
  if (capture != nullptr) return invalidate_capture();
  finish_copy();
  const int limit = setting("CUDA_EMULATION_FAILS_AFTER", -1);
  if (limit < 0) return waits = 0, cudaSuccess;
  return waits++ < limit ? cudaSuccess : cudaErrorLaunchFailure;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = new CUevent_st, cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (capture != nullptr) return invalidate_capture();
  LaterWork* const work = reinterpret_cast<LaterWork*>(stream);
  return *event = {work, work->done + work->waiting.size()}, cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event->is_reached()) return cudaSuccess;
  cuda_emulation::let_others_run();
  return event->is_reached() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (capture != nullptr) return invalidate_capture();
  while (cudaEventQuery(event) == cudaErrorNotReady) continue;
  return finish_copy(), cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned) { return cudaEventSynchronize(event); }

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  if (capture != nullptr) return cudaErrorInvalidValue;
  capture = new CUgraph_st;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = std::exchange(capture, nullptr);
  if (*graph == nullptr) return cudaErrorInvalidValue;
  if ((*graph)->is_valid) return cudaSuccess;
  (void)cudaGraphDestroy(std::exchange(*graph, nullptr));
  return cudaErrorStreamCaptureInvalidated;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  return *executable = new CUgraphExec_st{graph->work, std::move(graph->freed)}, cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  finish_copy();
  for (const std::function<void()>& work : executable->work) work();
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  for (void* const address : graph->freed) (void)cudaFreeAsync(address, nullptr);
  return delete graph, cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  for (void* const address : executable->freed) (void)cudaFreeAsync(address, nullptr);
  return delete executable, cudaSuccess;
}
