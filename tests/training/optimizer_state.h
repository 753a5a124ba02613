#pragma once

#include "training/optimizer.h"

namespace echo {

// The moments of an optimizer, as a checkpoint stores them.
inline NamedTensors stored_state(const AdamW& optimizer) {
  NamedTensors tensors;
  const TensorProvider provider = optimizer.state_provider();
  for (const TensorDescription& tensor : optimizer.state()) tensors.emplace_back(tensor.name, provided(provider, tensor));
  return tensors;
}

}  // namespace echo
