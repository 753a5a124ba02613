#pragma once

#include <memory>

#include "nn/checkpoint_reader.h"
#include "nn/language_model.h"

namespace echo {

// The model of a checkpoint folder, shared or not, as its config.json says. Weights are converted to options.dtype.
// Throws Error (bad_data) naming missing, unexpected or ill-shaped tensors.
std::unique_ptr<LanguageModel> load_model(const CheckpointReader& checkpoint, const WeightOptions& options);

// A student of the checkpoint's model: every weight that the student has (a Llama's followers have no query and key
// projections). The checkpoint may be shared
// itself when `leader_map` leaves out no more than it does.
std::unique_ptr<LanguageModel> load_student(const CheckpointReader& checkpoint, const LeaderMap& leader_map,
                                            const WeightOptions& options);

// A model of that family and shape with weights of zeros.
std::unique_ptr<LanguageModel> make_model(const LlamaConfig& config, const LeaderMap& leader_map, const WeightOptions& options);

// Fills a model that has the same tensors.
void load_weights(LanguageModel& model, const CheckpointReader& checkpoint);

}  // namespace echo
