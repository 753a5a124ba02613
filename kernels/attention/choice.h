#pragma once

#include <string_view>

namespace echo::kernels::cuda {

// Selects among the CUDA kernels of attention when several support the tensors (table in kernels/attention/attention.h).
enum class AttentionKernels {
  best,              // the quickest on this GPU
  sm80,              // those for GPUs before Hopper, also on Hopper
  sm80_whole_heads,  // as sm80, but with whole heads per block in the leader's backward step wherever memory allows
  plain,             // those for all shapes and dtypes
};

// The value with this name. Throws Error (config) with the list of names when there is none.
AttentionKernels attention_kernels_named(std::string_view name);

// The choice of this process: ECHOATT_ATTENTION in the environment, read at the first call. `best` when it is not set. Throws
// as above.
AttentionKernels attention_kernels();

// Changes the choice for one scope. For tests.
class ScopedAttentionKernels {
 public:
  explicit ScopedAttentionKernels(AttentionKernels kernels);
  ~ScopedAttentionKernels();
  ScopedAttentionKernels(const ScopedAttentionKernels&) = delete;
  ScopedAttentionKernels& operator=(const ScopedAttentionKernels&) = delete;

 private:
  AttentionKernels before_;
};

}  // namespace echo::kernels::cuda
