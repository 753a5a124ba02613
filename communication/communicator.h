#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace echo {

// The processes that train one model together, and what they exchange. Each process has a number, its rank. All ranks call the
// same functions in the same order with equal shapes, and a call ends when this rank has its result. One thread per rank calls.
// Tensors are contiguous and may be on any device.
// Every function throws Error (device) when the exchange fails, for example because another rank has ended.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int64_t rank() const = 0;   // 0 to world() - 1
  virtual int64_t world() const = 0;  // number of ranks
  bool is_first() const { return rank() == 0; }

  // Replaces each element by its sum over the ranks, added in the order rank 0 + rank 1 + ... So all ranks get the same bits,
  // whatever the timing. Throws Error (internal) unless `values` is contiguous and f32 or f64.
  virtual void all_reduce_sum(Tensor& values) = 0;
  // Copies rank 0's elements to all ranks. Throws Error (internal) unless `values` is contiguous.
  virtual void broadcast(Tensor& values) = 0;
  // Returns the messages of all ranks, in the order of the ranks. Messages may have different lengths.
  virtual std::vector<std::string> all_gather(const std::string& message) = 0;
  // Returns when all ranks have called it.
  virtual void barrier() = 0;

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
  void broadcast(Tensor& /*values*/) override {}
  std::vector<std::string> all_gather(const std::string& message) override { return {message}; }
  void barrier() override {}
};

// The sum of a number over all ranks, exact below 2^53.
int64_t sum_over_ranks(Communicator& communicator, int64_t value);
// Rank 0's text, on all ranks.
std::string text_of_first(Communicator& communicator, const std::string& text);

}  // namespace echo
