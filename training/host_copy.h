#pragma once

#include <memory>
#include <vector>

#include "weight_files/tensor_source.h"

namespace echo {

// A copy of tensors in main memory that is renewed again and again. Its memory is used again, because fresh pages cost more
// time than the copy. For tensors of a GPU the pages are locked, so that the copy runs at the full rate of the bus.
class HostCopy {
 public:
  // Copies what `provider` returns for each description, from any device, one tensor after the other. So moments that several
  // ranks hold are gathered in parts. Returns the copies, which the next call overwrites. Throws Error (device) when memory
  // runs out.
  const NamedTensors& renew(const std::vector<TensorDescription>& tensors, const TensorProvider& provider);

 private:
  NamedTensors copies_;
  std::vector<std::shared_ptr<void>> page_locks_;  // one per tensor; empty where pages are not locked
};

}  // namespace echo
