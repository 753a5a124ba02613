#pragma once

#include <string_view>

namespace echo::kernels::cuda {

// Which of attention's CUDA kernels run where several can take the tensors (kernels/attention/attention.h has the table).
enum class AttentionKernels {
  best,              // the quickest on this GPU
  sm80,              // those for GPUs before Hopper, on Hopper too
  sm80_whole_heads,  // of these, the leader's backward step by blocks that own whole heads wherever they have room
  plain,             // those for all shapes and dtypes
};

// The value with this name. Throws Error (config) with all names when there is none.
AttentionKernels attention_kernels_named(std::string_view name);

// The choice of this process: ECHOATT_ATTENTION in the environment, read at the first call, else `best`. Throws as above.
AttentionKernels attention_kernels();

// Another choice for one scope, in tests.
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
