#pragma once

#include <cstdint>

namespace echo {

// Is called around each layer of a forward pass, also when a layer is computed again in the backward pass. So the weights of a
// layer need to be in memory only in between.
class LayerHooks {
 public:
  virtual ~LayerHooks() = default;
  virtual void before_layer(int64_t layer) = 0;
  virtual void after_layer(int64_t layer) = 0;
};

}  // namespace echo
