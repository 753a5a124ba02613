#pragma once

#include "communication/communicator.h"

namespace echo {

// The elements [begin, begin + count) of an array of which each rank adds up one part.
struct RankSlice {
  int64_t begin, count;
};
// The part of `elements` that `rank` adds up. The parts follow each other, and some may be empty.
RankSlice slice_of_rank(int64_t elements, int64_t rank, int64_t world);

// A communicator that exchanges main memory. Tensors of a GPU are copied there and back.
class HostCommunicator : public Communicator {
 public:
  void all_reduce_sum(Tensor& values) override;
  void broadcast(Tensor& values) override;

 protected:
  virtual void sum(float* values, int64_t count) = 0;
  virtual void sum(double* values, int64_t count) = 0;
  virtual void copy_from_first(void* bytes, int64_t count) = 0;
};

}  // namespace echo
