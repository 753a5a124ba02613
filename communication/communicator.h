#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace echo {

// The elements [begin, begin + count) of an array that belong to one rank.
struct RankSlice {
  int64_t begin, count;
};
// The part of `elements` that belongs to `rank`. The parts follow each other. All have the same length, except that the last
// ones may be shorter or empty.
RankSlice slice_of_rank(int64_t elements, int64_t rank, int64_t world);

// An exchange that goes on while its caller computes. Its tensor is neither read nor written by others until wait() returns.
// The destructor does not wait. Exchanges are started in the same order on all ranks. They may be waited for in any order.
class Exchange {
 public:
  virtual ~Exchange() = default;
  // Returns when this rank has its result. Later calls return at once. Throws Error (unavailable) when the exchange fails.
  virtual void wait() = 0;
};

// Waits for the exchange and returns how many seconds that took.
double timed_wait(Exchange& exchange);

// The processes that train one model together, and what they exchange. Each process has a number, its rank. All ranks call the
// same functions in the same order with equal shapes, and a call ends when this rank has its result. One thread per rank calls.
// Tensors are contiguous and may be on any device.
// Every function throws Error (unavailable) when the exchange fails, for example because another rank has ended.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int64_t rank() const = 0;   // 0 to world() - 1
  virtual int64_t world() const = 0;  // number of ranks
  bool is_first() const { return rank() == 0; }

  // Replaces each element by its sum over the ranks, added in the order rank 0 + rank 1 + ... So all ranks get the same bits,
  // whatever the timing. Throws Error (internal) unless `values` is contiguous and f32 or f64.
  virtual void all_reduce_sum(Tensor& values) = 0;

  // The following begin an exchange of a tensor of one dimension, f32, f64 or bf16, which other calls may overlap. bf16 values
  // are sent as they are, summed in f32 in the order of the ranks, and rounded once. Throws Error (internal) unless `values` is
  // contiguous, of one dimension and of one of these dtypes.
  // Afterwards `values` is as after all_reduce_sum, with the same bits.
  virtual std::unique_ptr<Exchange> start_all_reduce_sum(Tensor values) = 0;
  // Afterwards this rank's slice_of_rank(elements, rank(), world()) has the sum, with the same bits as after all_reduce_sum.
  // The other elements have no defined value.
  virtual std::unique_ptr<Exchange> start_reduce_scatter_sum(Tensor values) = 0;
  // Afterwards each rank's slice of `values` has been copied to all ranks.
  virtual std::unique_ptr<Exchange> start_all_gather_slices(Tensor values) = 0;

  // Copies rank 0's elements to all ranks. Throws Error (internal) unless `values` is contiguous.
  virtual void broadcast(Tensor& values) = 0;
  // Returns the messages of all ranks, in the order of the ranks. Messages may have different lengths.
  virtual std::vector<std::string> all_gather(const std::string& message) = 0;
  // Returns when all ranks have called it.
  virtual void barrier() = 0;

  // From now on an exchange that takes longer than this fails, because another rank hangs. Before the first call there is no
  // limit. Ranks that are threads of one process have none.
  virtual void set_timeout(double /*seconds*/) {}

  // Ends all processes of the job at once with this exit code, if there are several. Only the last handler of a program may
  // call it, because nothing else is cleaned up. With one process it does nothing.
  virtual void end_job(int /*exit_code*/) {}
};

// A run of one process, which exchanges nothing.
class SingleProcess : public Communicator {
 public:
  int64_t rank() const override { return 0; }
  int64_t world() const override { return 1; }
  void all_reduce_sum(Tensor& /*values*/) override {}
  std::unique_ptr<Exchange> start_all_reduce_sum(Tensor /*values*/) override { return std::make_unique<Nothing>(); }
  std::unique_ptr<Exchange> start_reduce_scatter_sum(Tensor /*values*/) override { return std::make_unique<Nothing>(); }
  std::unique_ptr<Exchange> start_all_gather_slices(Tensor /*values*/) override { return std::make_unique<Nothing>(); }
  void broadcast(Tensor& /*values*/) override {}
  std::vector<std::string> all_gather(const std::string& message) override { return {message}; }
  void barrier() override {}

 private:
  struct Nothing : Exchange {
    void wait() override {}
  };
};

// The sum of a number over all ranks, exact below 2^53.
int64_t sum_over_ranks(Communicator& communicator, int64_t value);
// Rank 0's text, on all ranks.
std::string text_of_first(Communicator& communicator, const std::string& text);

}  // namespace echo
