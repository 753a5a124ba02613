#pragma once

#include "communication/agreement.h"
#include "config/train_config.h"
#include "training/resolved_inputs.h"

namespace echo {

// What the ranks of a run must have in common: each setting by its key, the program (a hash of its file), the tokenizer (a
// hash), the models (a hash of their config.json, and the bytes in their folder), and the names and sizes of the data files.
// Hashes of all weights would take minutes. Throws Error (input_missing) when a file cannot be read.
Facts facts_of_run(const TrainConfig& config, const ResolvedInputs& inputs);

}  // namespace echo
