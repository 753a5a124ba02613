#include "nn/model_io.h"

#include "nn/model_families.h"

namespace echo {

std::unique_ptr<LanguageModel> make_model(const LlamaConfig& config, const LeaderMap& leader_map,
                                          const WeightOptions& options) {
  return model_family(config.family).make(config, leader_map, options);
}

void load_weights(LanguageModel& model, const CheckpointReader& checkpoint) {
  for (NamedTensor& part : model.named_tensors()) checkpoint.read_into(part.name, part.tensor);
}

std::unique_ptr<LanguageModel> load_model(const CheckpointReader& checkpoint, const WeightOptions& options) {
  checkpoint.check();
  auto model = make_model(checkpoint.config(), checkpoint.leader_map(), options);
  load_weights(*model, checkpoint);
  return model;
}

std::unique_ptr<LanguageModel> load_student(const CheckpointReader& checkpoint, const LeaderMap& leader_map,
                                            const WeightOptions& options) {
  const LlamaConfig& config = checkpoint.config();
  if (leader_map.layers() != config.num_hidden_layers)
    fail(ExitCode::config, "leader map: ", leader_map.layers(), " layers, but ", checkpoint.folder().string(), " has ",
         config.num_hidden_layers, "; give one entry per layer");
  checkpoint.check(weight_shapes(config, leader_map), {.allow_unused = true});
  auto model = make_model(config, leader_map, options);
  load_weights(*model, checkpoint);
  return model;
}

}  // namespace echo
