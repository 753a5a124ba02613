#pragma once

#include <memory>

#include "nn/checkpoint_reader.h"
#include "nn/language_model.h"

namespace echo {

// Loads the model of a checkpoint folder, shared or not, according to its config.json. Weights are converted to options.dtype.
// Throws Error (bad_data) with the names of missing, unexpected or ill-shaped tensors.
std::unique_ptr<LanguageModel> load_model(const CheckpointReader& checkpoint, const WeightOptions& options);

// A student of the checkpoint's model: every weight that the student has (a Llama's followers have no query and key
// projections). The checkpoint may be shared
// itself when `leader_map` leaves out no more than it does.
std::unique_ptr<LanguageModel> load_student(const CheckpointReader& checkpoint, const LeaderMap& leader_map,
                                            const WeightOptions& options);

// Makes a model of the config's family and shape, with weights of zero.
std::unique_ptr<LanguageModel> make_model(const LlamaConfig& config, const LeaderMap& leader_map, const WeightOptions& options);

// Reads all weights of `model` from a checkpoint with the same tensors.
void load_weights(LanguageModel& model, const CheckpointReader& checkpoint);

}  // namespace echo
