#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "autograd/ops.h"
#include "base/file.h"
#include "nn/model_io.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/training_checkpoint.h"

namespace echo {

// A model of a few hundred parameters with an optimizer that took one step.
struct SmallRun {
  SmallRun() {
    description.config.vocab_size = 20;
    description.config.hidden_size = 8;
    description.config.intermediate_size = 12;
    description.config.num_hidden_layers = 3;
    description.config.num_attention_heads = description.config.num_key_value_heads = 2;
    description.config.head_dim = 4;
    description.leader_map = LeaderMap({0, 1, 1});
    model = make_model(description.config, description.leader_map, {});
    initialize(*model, 0.1, 5);
    optimizer = std::make_unique<AdamW>(*model, OptimizerSettings{});
    for (Parameter* parameter : model->parameters())
      scale(parameter->variable, 1.0).backward(parameter->variable.data().clone());
    optimizer->step(0.01, optimizer->gradient_norm());
    write_file_atomically(folder / "tokenizer.model", "not read here");
    fs::create_directory(folder / "run");
    state.cursor.files = 99;
  }
  // Each step has other weights.
  fs::path save(int64_t step, int64_t keep = 0) {
    state.step = step;
    model->parameters().front()->variable.data().data<float>()[0] = float(step);
    return save_checkpoint(folder.path() / "run", content(), keep);
  }
  CheckpointContent content() const {
    return {.state = state,
            .weights = weights_of(*model),
            .moments = optimizer->state(),
            .moment_provider = optimizer->state_provider(),
            .optimizer_steps = optimizer->steps(),
            .description = description,
            .tokenizer_file = folder / "tokenizer.model",
            .config = {{"seed", 1}}};
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder / "run")) found.push_back(entry.path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  }

  const std::unique_ptr<TemporaryFolder> memory = memory_folder();
  const TemporaryFolder& folder = *memory;
  ModelDescription description;
  std::unique_ptr<LanguageModel> model;
  std::unique_ptr<AdamW> optimizer;
  TrainingState state;
};

}  // namespace echo
