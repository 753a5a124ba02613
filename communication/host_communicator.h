#pragma once

#include <cstddef>

#include "communication/background_thread.h"
#include "communication/communicator.h"

namespace echo {

// A communicator that exchanges main memory. Tensors of a GPU are copied there and back. Exchanges run in a thread of their
// own, on a line of their own, so that they go on while the caller computes or calls other functions.
class HostCommunicator : public Communicator {
 public:
  // Larger arrays are exchanged in several rounds of about this size, which limits the memory for what other ranks send.
  static constexpr int64_t kElementsOfRound = int64_t{1} << 22;

  void all_reduce_sum(Tensor& values) override;
  void broadcast(Tensor& values) override;
  std::unique_ptr<Exchange> start_all_reduce_sum(Tensor values) override;
  std::unique_ptr<Exchange> start_reduce_scatter_sum(Tensor values) override;
  std::unique_ptr<Exchange> start_all_gather_slices(Tensor values) override;

 protected:
  enum class Line { caller, background };
  // The parts of an array that an exchange moves, in elements: one for each rank.
  struct Pieces {
    std::vector<RankSlice> of_rank;
    int64_t item;  // bytes per element: 2, 4 or 8
  };
  // Sends each rank its piece of `values`. Fills `parts` with this rank's piece from all ranks, in their order.
  virtual void exchange_pieces(Line line, const std::byte* values, const Pieces& pieces, std::byte* parts) = 0;
  // Copies each rank's piece to all ranks.
  virtual void gather_pieces(Line line, std::byte* values, const Pieces& pieces) = 0;
  virtual void copy_from_first(void* bytes, int64_t count) = 0;

  // The destructor of a derived class calls it first, because a running exchange uses the functions above.
  void stop_background() { background_.stop(); }

 private:
  enum class Kind { all_reduce, reduce_scatter, all_gather };
  std::unique_ptr<Exchange> start(Kind kind, const char* name, Tensor values);
  void exchange(Line line, Kind kind, const Tensor& values);

  BackgroundThread background_;
};

}  // namespace echo
