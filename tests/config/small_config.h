#pragma once

#include "config/reading.h"

namespace echo {

// The minimum that mode distill accepts.
inline constexpr const char* kSmall =
    "teacher:\n  model_name_or_path: models/stories12L\n"
    "student:\n  plan:\n    method: optimal\n    followers: 5\n"
    "data:\n  path: corpora/tinystories/train\n"
    "max_steps: 3\n";

inline TrainConfig small() { return read_config_text(kSmall, "x.yaml").config; }

}  // namespace echo
