#pragma once

#include "kernels/rope.h"
#include "nn/model_config.h"

namespace echo {

// The angles of positions 0 to positions - 1 as the config asks for them, computed in f64 and rounded once to `dtype` (f32 or
// f64; transformers computes them in f32, which moves its logits by about 1e-5 at 64 tokens).
// angle[t][i] = t * frequency[i],  frequency[i] = theta^(-2i / Dh), stretched by rope_scaling.
kernels::RopeTable make_rope_table(const LlamaConfig& config, int64_t positions, DType dtype, Device device = {});

}  // namespace echo
