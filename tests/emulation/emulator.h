#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

// Runs the threads of a CUDA block as fibers of one host thread, so that kernels compiled by the host's compiler can be tested
// on a machine without a GPU. A fiber runs until it waits at a barrier of the block or of its warp. Every exchange between
// lanes is such a barrier. Shared memory is on the heap with its exact size, and is filled with NaN bits before each block.
// Blocks run one after another. The environment variable CUDA_EMULATION_ORDER at the launch determines the order of threads:
// forward (the default), reverse, or random:SEED, which changes after every round. If the results of a kernel depend on the
// order, a barrier is missing.
// Throws std::runtime_error when threads wait for each other forever, or when a lane has ended before an exchange that includes
// it.
namespace cuda_emulation {

struct Index3 {
  unsigned x = 1, y = 1, z = 1;
};

// The position of the running fiber, which a kernel sees as threadIdx, blockIdx, blockDim and gridDim.
extern Index3 thread_index, block_index, block_dimensions, grid_dimensions;

void run_grid(Index3 grid, Index3 block, size_t shared_bytes, const std::function<void()>& kernel);

// ---- for kernels ----
std::byte* dynamic_shared_memory();
// Waits for all threads of the block that have not returned; for `count` threads (bar.sync id, count) at a named barrier.
// Threads that only arrive (bar.arrive) do not wait.
void block_barrier();
void named_barrier(int id, int count, bool wait);
int lane();

// Each lane of `mask` passes `bytes` bytes (at most kExchangeBytes) and waits for the others. Returns the bytes of all lanes:
// those of lane i at i * kExchangeBytes, valid until this thread's next exchange with the same mask.
inline constexpr size_t kExchangeBytes = 64;
const std::byte* exchange(uint32_t mask, const void* mine, size_t bytes);

int thread_number();  // in the block

// Work that hardware does in parallel with the program: copies (cp.async), stores (cp.async.bulk to global memory), products of
// a warpgroup. Here it is done as late as the program allows: when the same thread waits for its group. So a missing wait is
// noticed.
enum class Channel { copies, stores, products };
void defer(Channel channel, std::function<void()> work);
void commit(Channel channel);
void wait_deferred(Channel channel, int groups_in_flight);

// mbarrier, and copies that report to one. They are done when a thread waits for their phase.
void start_transfer_barrier(uint64_t* barrier, int arrivals);
void arrive_at_transfer_barrier(uint64_t* barrier, int expected_bytes);
void transfer(uint64_t* barrier, size_t bytes, std::function<void()> copy);
void wait_for_transfers(uint64_t* barrier, int parity);

// Adds work to a stream other than the one that computes. `work` is called when somebody asks whether it is done, until it
// returns true. So results appear as late as the program allows.
void add_later_work(const void* stream, std::function<bool()> work);
// For copies by such work. The ranges must be inside device memory.
void copy_device_bytes(void* to, const void* from, size_t bytes);
// Lets the other emulated ranks run (ranks.h). Without ranks it does nothing.
void let_others_run();

// Ends the launch with this message, when the program requests something that is not allowed.
[[noreturn]] void refuse(const std::string& what);

}  // namespace cuda_emulation
