#pragma once

#include <mutex>

#include "kernels/rope.h"
#include "nn/model_config.h"

namespace echo {

// The cosines and sines of the angles of positions 0 to positions - 1 for this config, computed in f64 and rounded once to
// `dtype` (f32 or f64). Both tensors of the table are (positions, Dh / 2), contiguous, on `device`. (transformers computes in
// f32, which changes its logits by about 1e-5 at 64 tokens.)
// angle[t][i] = t * frequency[i],  frequency[i] = theta^(-2i / Dh), stretched by rope_scaling.
kernels::RopeTable make_rope_table(const LlamaConfig& config, int64_t positions, DType dtype, Device device = {});

// The table of a model. It is made when first needed, and made again for a longer text or another dtype. Several threads may
// call it at the same time. A table never changes once it was returned, so a recorded step can continue to read it.
class RopeTableCache {
 public:
  RopeTableCache(const LlamaConfig& config, Device device) : config_(config), device_(device) {}

  // At least `positions` rows, in the accumulator dtype of `compute_dtype`. A new table has up to twice as many rows (at most
  // max_position_embeddings), so that a growing text needs few tables.
  kernels::RopeTable at_least(int64_t positions, DType compute_dtype);

 private:
  const LlamaConfig config_;
  const Device device_;
  std::mutex mutex_;  // guards the line below
  kernels::RopeTable table_;
};

}  // namespace echo
