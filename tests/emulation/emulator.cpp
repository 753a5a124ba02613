#include "tests/emulation/emulator.h"

#include <algorithm>
#include <array>
#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#else
#define __sanitizer_start_switch_fiber(fake, bottom, bytes) ((void)(fake), (void)(bottom), (void)(bytes))
#define __sanitizer_finish_switch_fiber(fake, bottom, bytes) ((void)(fake), (void)(bottom), (void)(bytes))
#endif

namespace cuda_emulation {

Index3 thread_index, block_index, block_dimensions, grid_dimensions;

namespace {

namespace context = boost::context;

constexpr unsigned kWarp = 32;
constexpr size_t kStackBytes = 256 << 10;
constexpr size_t kSharedAlignment = 1024;

struct Barrier {
  int arrived = 0;
  int expected = 0;  // 0: every remaining thread of the group
  uint64_t generation = 0;
};

// The data that the lanes of a warp exchange, for one mask. There are two sets of slots, because a lane may be in the next
// exchange while another still reads the last one.
struct Exchange {
  Barrier barrier;
  std::array<std::array<std::byte, kWarp * kExchangeBytes>, 2> slots;
};

// Groups of deferred work. The last group is still open.
using Deferred = std::deque<std::vector<std::function<void()>>>;

// The address of a stack, because AddressSanitizer must know every change of stacks.
struct Stack {
  const void* bottom = nullptr;
  size_t bytes = 0;
};

struct Thread {
  context::fiber fiber;
  Stack stack;
  Index3 index;
  unsigned number = 0;
  bool started = false, done = false;
  const Barrier* waits_at = nullptr;
  uint64_t waits_for = 0;             // the generation of the barrier that ends the wait
  std::function<bool()> waits_until;  // or until this is true
  std::array<Deferred, 3> deferred;   // by channel
};

struct Block {
  std::vector<Thread> threads;
  unsigned live = 0;
  Barrier barrier;
  std::map<int, Barrier> named;
  std::vector<uint32_t> live_lanes;                     // by warp
  std::vector<std::map<uint32_t, Exchange>> exchanges;  // by warp and mask
  std::unique_ptr<std::byte[], decltype(&std::free)> shared{nullptr, &std::free};
  std::map<const uint64_t*, std::vector<std::pair<size_t, std::function<void()>>>> transfers;  // in progress, by barrier
  context::fiber scheduler;
  Stack scheduler_stack;
  Thread* running = nullptr;
  std::exception_ptr failure;
  std::mt19937_64 pauses;  // in random order: when a thread that could continue lets others run first
  bool with_pauses = false;
};

Block* current = nullptr;

class Order {
 public:
  explicit Order(size_t count) : numbers_(count) {
    std::iota(numbers_.begin(), numbers_.end(), 0u);
    const char* named = std::getenv("CUDA_EMULATION_ORDER");
    const std::string order = named == nullptr ? "forward" : named;
    if (order == "reverse") {
      std::reverse(numbers_.begin(), numbers_.end());
    } else if (order.starts_with("random:")) {
      random_ = true;
      engine_.seed(std::stoull(order.substr(7)));
    } else if (order != "forward") {
      throw std::invalid_argument("CUDA_EMULATION_ORDER is " + order + ", expected forward, reverse or random:SEED");
    }
  }
  bool is_random() const { return random_; }
  uint64_t draw() { return engine_(); }
  const std::vector<unsigned>& next_round() {
    if (random_) std::shuffle(numbers_.begin(), numbers_.end(), engine_);
    return numbers_;
  }

 private:
  std::vector<unsigned> numbers_;
  std::mt19937_64 engine_;
  bool random_ = false;
};

void give_way();

void wait_at(const Barrier& barrier, uint64_t generation) {
  current->running->waits_at = &barrier;
  current->running->waits_for = generation;
  give_way();
}

// Lets other threads run, until it is this thread's turn and it need not wait any more.
void give_way() {
  Stack& scheduler = current->scheduler_stack;
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, scheduler.bottom, scheduler.bytes);
  try {
    current->scheduler = std::move(current->scheduler).resume();
  } catch (const context::detail::forced_unwind&) {
    __sanitizer_finish_switch_fiber(fake, &scheduler.bottom, &scheduler.bytes);
    throw;
  }
  __sanitizer_finish_switch_fiber(fake, &scheduler.bottom, &scheduler.bytes);
}

// Runs a thread until it waits or ends. Without `run`, unwinds the stack of a thread that did not end.
void resume(Thread& thread, bool run) {
  if (!run && !thread.started) return;  // nothing on its stack
  thread.started = true;
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, thread.stack.bottom, thread.stack.bytes);
  thread.fiber = run ? std::move(thread.fiber).resume() : context::fiber();
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}

// In random order, a thread that could continue waits for its next turn half of the time, so that others overtake it.
void maybe_pause() {
  if (!current->with_pauses || current->pauses() % 2 == 0) return;
  static const Barrier kOpen;
  wait_at(kOpen, 0);
}

void open(Barrier& barrier) {
  barrier.arrived = 0;
  ++barrier.generation;
}

void arrive(Barrier& barrier, int expected, bool wait) {
  const uint64_t next = barrier.generation + 1;
  if (++barrier.arrived == expected) {
    open(barrier);
    maybe_pause();
  } else if (wait)
    wait_at(barrier, next);
}

// A thread that has returned no longer counts at the block's barrier.
void leave(Block& block, Thread& thread) {
  thread.done = true;
  --block.live;
  block.live_lanes[thread.number / kWarp] &= ~(1u << (thread.number % kWarp));
  if (block.barrier.arrived > 0 && block.barrier.arrived == int(block.live)) open(block.barrier);
}

bool is_runnable(const Thread& thread) {
  if (thread.done) return false;
  if (thread.waits_until != nullptr) return thread.waits_until();
  return thread.waits_at == nullptr || thread.waits_at->generation >= thread.waits_for;
}

void run_block(Block& block, const std::function<void()>& kernel, size_t shared_bytes, Order& order) {
  static context::pooled_fixedsize_stack stacks(kStackBytes);
  const unsigned count = unsigned(block.threads.size());
  const unsigned warps = (count + kWarp - 1) / kWarp;
  block.live = count;
  void* shared = nullptr;
  if (posix_memalign(&shared, kSharedAlignment, std::max<size_t>(shared_bytes, 1)) != 0) throw std::bad_alloc();
  block.shared.reset(static_cast<std::byte*>(shared));
  std::memset(block.shared.get(), 0xff, shared_bytes);
  block.exchanges.resize(warps);
  for (unsigned warp = 0; warp < warps; ++warp) {
    const unsigned lanes = std::min(kWarp, count - warp * kWarp);
    block.live_lanes.push_back(lanes == kWarp ? 0xffffffffu : (1u << lanes) - 1);
  }
  for (unsigned number = 0; number < count; ++number) {
    Thread& thread = block.threads[number];
    thread.number = number;
    thread.index = {number % block_dimensions.x, number / block_dimensions.x % block_dimensions.y,
                    number / (block_dimensions.x * block_dimensions.y)};
    const context::stack_context stack = stacks.allocate();
    thread.stack = {static_cast<std::byte*>(stack.sp) - stack.size, stack.size};
    thread.fiber =
        context::fiber(std::allocator_arg, context::preallocated(stack.sp, stack.size, stack), stacks,
                       [&block, &thread, &kernel](context::fiber&& scheduler) {
                         __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack.bottom, &block.scheduler_stack.bytes);
                         block.scheduler = std::move(scheduler);
                         try {
                           kernel();
                         } catch (const context::detail::forced_unwind&) {
                           __sanitizer_start_switch_fiber(nullptr, block.scheduler_stack.bottom, block.scheduler_stack.bytes);
                           throw;
                         } catch (...) {
                           block.failure = std::current_exception();
                         }
                         leave(block, thread);
                         __sanitizer_start_switch_fiber(nullptr, block.scheduler_stack.bottom, block.scheduler_stack.bytes);
                         return std::move(block.scheduler);
                       });
  }
  block.with_pauses = order.is_random();
  if (block.with_pauses) block.pauses.seed(order.draw());
  current = &block;
  while (block.live > 0 && block.failure == nullptr) {
    bool progress = false;
    for (const unsigned number : order.next_round()) {
      Thread& thread = block.threads[number];
      if (!is_runnable(thread)) continue;
      progress = true;
      thread.waits_at = nullptr;
      thread.waits_until = nullptr;
      block.running = &thread;
      thread_index = thread.index;
      resume(thread, true);
      if (block.failure != nullptr) break;
    }
    if (!progress) {
      block.failure = std::make_exception_ptr(std::runtime_error("emulated block " + std::to_string(block_index.x) + ", " +
                                                                 std::to_string(block_index.y) + ": " +
                                                                 std::to_string(block.live) + " of " + std::to_string(count) +
                                                                 " threads wait at barriers that the others do not reach"));
    }
  }
}

}  // namespace

void run_grid(Index3 grid, Index3 block, size_t shared_bytes, const std::function<void()>& kernel) {
  if (current != nullptr) throw std::logic_error("emulated launch inside a kernel");
  const size_t threads = size_t(block.x) * block.y * block.z, blocks = size_t(grid.x) * grid.y * grid.z;
  if (threads == 0 || threads > 1024 || blocks == 0 || grid.y > 65535 || grid.z > 65535 || shared_bytes > (227u << 10))
    throw std::invalid_argument("emulated launch: grid " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " +
                                std::to_string(grid.z) + ", block of " + std::to_string(threads) + ", " +
                                std::to_string(shared_bytes) + " bytes of shared memory");
  grid_dimensions = grid;
  block_dimensions = block;
  Order block_order(blocks), thread_order(threads);
  const std::vector<unsigned> numbers = block_order.next_round();
  for (const unsigned number : numbers) {
    block_index = {number % grid.x, number / grid.x % grid.y, number / (grid.x * grid.y)};
    Block state;
    state.threads = std::vector<Thread>(threads);
    run_block(state, kernel, shared_bytes, thread_order);
    const std::exception_ptr failure = state.failure;
    for (Thread& thread : state.threads)
      if (thread.fiber) resume(thread, false);
    current = nullptr;
    if (failure != nullptr) std::rethrow_exception(failure);
  }
}

std::byte* dynamic_shared_memory() { return current->shared.get(); }

void block_barrier() { arrive(current->barrier, int(current->live), true); }

void named_barrier(int id, int count, bool wait) { arrive(current->named[id], count, wait); }

int lane() { return int(current->running->number % kWarp); }

const std::byte* exchange(uint32_t mask, const void* mine, size_t bytes) {
  Block& block = *current;
  const unsigned warp = block.running->number / kWarp;
  const uint32_t own = 1u << (block.running->number % kWarp);
  // The full mask means all lanes of a warp, even if the warp is not full.
  const unsigned first = warp * kWarp, lanes = std::min(kWarp, unsigned(block.threads.size()) - first);
  const uint32_t all = lanes == kWarp ? 0xffffffffu : (1u << lanes) - 1;
  if (mask == 0xffffffffu) mask = all;
  if ((mask & own) == 0) throw std::runtime_error("exchange between lanes: the mask lacks the calling lane");
  if ((mask & ~block.live_lanes[warp]) != 0)
    throw std::runtime_error("exchange between lanes: a lane of the mask has returned");
  if (bytes > kExchangeBytes) throw std::runtime_error("exchange between lanes: too many bytes");
  Exchange& exchange = block.exchanges[warp][mask];
  const uint64_t generation = exchange.barrier.generation;
  std::byte* slots = exchange.slots[generation % 2].data();
  std::memcpy(slots + size_t(lane()) * kExchangeBytes, mine, bytes);
  arrive(exchange.barrier, __builtin_popcount(mask), true);
  return slots;
}

int thread_number() { return int(current->running->number); }

void refuse(const std::string& what) { throw std::runtime_error("emulated device: " + what); }

void defer(Channel channel, std::function<void()> work) {
  Deferred& groups = current->running->deferred[size_t(channel)];
  if (groups.empty()) groups.emplace_back();
  groups.back().push_back(std::move(work));
  maybe_pause();
}

void commit(Channel channel) {
  Deferred& groups = current->running->deferred[size_t(channel)];
  if (groups.empty()) groups.emplace_back();
  groups.emplace_back();
}

void wait_deferred(Channel channel, int groups_in_flight) {
  Deferred& groups = current->running->deferred[size_t(channel)];
  while (int(groups.size()) > groups_in_flight + 1) {
    for (const auto& work : groups.front()) work();
    groups.pop_front();
  }
}

// ---- mbarrier: its state is in shared memory, where kernels put it
// -----------------------------------------------------------
namespace {

struct TransferBarrier {
  uint16_t arrivals, missing;  // of a phase; of this phase
  uint32_t bytes : 31, parity : 1;
};
static_assert(sizeof(TransferBarrier) == sizeof(uint64_t));

TransferBarrier& state_of(uint64_t* barrier) { return *reinterpret_cast<TransferBarrier*>(barrier); }

// Makes the copies of a phase for which nothing else is missing, and ends the phase.
void finish_phase(uint64_t* barrier) {
  TransferBarrier& state = state_of(barrier);
  if (state.missing > 0) return;
  auto& transfers = current->transfers[barrier];
  size_t bytes = 0;
  for (const auto& [size, copy] : transfers) bytes += size;
  if (bytes != state.bytes) return;
  for (const auto& [size, copy] : transfers) copy();
  transfers.clear();
  state.bytes = 0;
  state.missing = state.arrivals;
  state.parity ^= 1;
}

}  // namespace

void start_transfer_barrier(uint64_t* barrier, int arrivals) {
  state_of(barrier) = {uint16_t(arrivals), uint16_t(arrivals), 0, 0};
}

void arrive_at_transfer_barrier(uint64_t* barrier, int expected_bytes) {
  TransferBarrier& state = state_of(barrier);
  if (state.missing == 0 || state.missing > state.arrivals) refuse("more threads arrive in a phase than its barrier is for");
  state.bytes += uint32_t(expected_bytes);
  --state.missing;
  if (state.bytes == 0) finish_phase(barrier);
  maybe_pause();
}

void transfer(uint64_t* barrier, size_t bytes, std::function<void()> copy) {
  current->transfers[barrier].emplace_back(bytes, std::move(copy));
  maybe_pause();
}

void wait_for_transfers(uint64_t* barrier, int parity) {
  const auto is_over = [=] {
    if (state_of(barrier).parity == unsigned(parity)) finish_phase(barrier);
    return state_of(barrier).parity != unsigned(parity);
  };
  if (is_over()) return maybe_pause();
  current->running->waits_until = is_over;
  give_way();
}

}  // namespace cuda_emulation
