#pragma once

namespace echo {

// Tells a backward kernel to overwrite its output or to add to it. Gradients of activations are overwritten. Gradients of
// parameters accumulate over micro-batches.
enum class GradientMode { overwrite, accumulate };

}  // namespace echo
