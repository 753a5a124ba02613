#pragma once

namespace echo {

// Whether a backward kernel replaces its output or adds to it. Gradients of activations are overwritten; those of parameters
// accumulate over micro-batches.
enum class GradientMode { overwrite, accumulate };

}  // namespace echo
