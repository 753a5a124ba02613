#include "kernels/attention/choice.h"

#include <cstdlib>
#include <utility>

#include "base/error.h"

namespace echo::kernels::cuda {
namespace {

AttentionKernels& chosen() {
  static AttentionKernels kernels = [] {
    const char* const value = std::getenv("ECHOATT_ATTENTION");
    return value == nullptr ? AttentionKernels::best : attention_kernels_named(value);
  }();
  return kernels;
}

}  // namespace

AttentionKernels attention_kernels_named(std::string_view name) {
  if (name == "best") return AttentionKernels::best;
  if (name == "sm80") return AttentionKernels::sm80;
  if (name == "sm80_whole_heads") return AttentionKernels::sm80_whole_heads;
  if (name == "plain") return AttentionKernels::plain;
  fail(ExitCode::config, "ECHOATT_ATTENTION is ", name, ", expected best, sm80, sm80_whole_heads or plain");
}

AttentionKernels attention_kernels() { return chosen(); }

ScopedAttentionKernels::ScopedAttentionKernels(AttentionKernels kernels) : before_(std::exchange(chosen(), kernels)) {}
ScopedAttentionKernels::~ScopedAttentionKernels() { chosen() = before_; }

}  // namespace echo::kernels::cuda
