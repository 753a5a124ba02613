#pragma once

#include <mutex>

#include "kernels/rope.h"
#include "nn/model_config.h"

namespace echo {

// The angles of positions 0 to positions - 1 as the config asks for them, computed in f64 and rounded once to `dtype` (f32 or
// f64; transformers computes them in f32, which moves its logits by about 1e-5 at 64 tokens).
// angle[t][i] = t * frequency[i],  frequency[i] = theta^(-2i / Dh), stretched by rope_scaling.
kernels::RopeTable make_rope_table(const LlamaConfig& config, int64_t positions, DType dtype, Device device = {});

// The table of a model, made when it is first needed and again when a longer text or another dtype comes. Several threads may
// ask at the same time. A table never changes after it was handed out, so that a recorded step may go on reading it.
class RopeTableCache {
 public:
  RopeTableCache(const LlamaConfig& config, Device device) : config_(config), device_(device) {}

  // At least `positions` rows, in the accumulator dtype of `compute_dtype`. A new table has twice as many up to
  // max_position_embeddings: a text that grows needs few.
  kernels::RopeTable at_least(int64_t positions, DType compute_dtype);

 private:
  const LlamaConfig config_;
  const Device device_;
  std::mutex mutex_;  // guards the line below
  kernels::RopeTable table_;
};

}  // namespace echo
