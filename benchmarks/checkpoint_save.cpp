// Times how long a run waits for its checkpoints, and for its start from one. The model has random weights.
//   checkpoint_save --output FOLDER [--layers L] [--hidden-size D] [--saves N] [--device cpu|cuda]
// Prints one line of JSON for saves that the run waits for, one for saves in the background, and one for a resume.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "autograd/ops.h"
#include "base/file.h"
#include "base/program.h"
#include "nn/model_io.h"
#include "tensor/device_choice.h"
#include "training/checkpoint_saver.h"

namespace {

using namespace echo;

struct Arguments {
  std::string output, device = "cpu";
  int64_t layers = 6, hidden_size = 1024, saves = 4;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Model {
  ModelDescription description;
  std::unique_ptr<LanguageModel> weights;
  std::unique_ptr<AdamW> optimizer;
};

ModelDescription described(const Arguments& arguments) {
  ModelDescription description;
  LlamaConfig& config = description.config;
  config.num_hidden_layers = arguments.layers, config.hidden_size = arguments.hidden_size, config.head_dim = 64;
  config.num_attention_heads = config.num_key_value_heads = arguments.hidden_size / 64;
  config.intermediate_size = arguments.hidden_size / 256 * 704, config.vocab_size = 32000;
  description.leader_map = LeaderMap::own(arguments.layers);
  return description;
}

Model made(const Arguments& arguments) {
  Model model{.description = described(arguments), .weights = nullptr, .optimizer = nullptr};
  const WeightOptions options{.device = choose_device(arguments.device).device};
  model.weights = make_model(model.description.config, model.description.leader_map, options);
  initialize(*model.weights, 0.02, 1);
  model.optimizer = std::make_unique<AdamW>(*model.weights, OptimizerSettings{});
  for (Parameter* parameter : model.weights->parameters())
    scale(parameter->variable, 1.0).backward(parameter->variable.data().clone());
  model.optimizer->step(0.01, model.optimizer->gradient_norm());
  model.optimizer->clear_gradients();
  return model;
}

double gigabytes_of(const CheckpointContent& content) {
  double bytes = 0;
  for (const auto& [name, tensor] : content.weights) bytes += double(tensor.bytes());
  for (const TensorDescription& moment : content.moments) bytes += double(moment.shape.elements() * size_of(moment.dtype));
  return bytes / 1e9;
}

void time_saves(const Arguments& arguments, CheckpointContent content, bool in_background) {
  const fs::path output(arguments.output);
  std::vector<CheckpointSaver::Saved> saves;
  CheckpointSaver saver({.output_dir = output, .log = output / "log", .keep = 1, .in_background = in_background},
                        [&](const CheckpointSaver::Saved& saved) { saves.push_back(saved); });
  for (int64_t i = 0; i < arguments.saves; ++i) {
    ++content.state.step;
    saver.save(content);
    saver.wait();
  }
  // The first copy takes fresh memory.
  const auto later = std::next(saves.begin(), saves.size() > 1);
  const auto by_wait = [](const auto& a, const auto& b) { return a.waited < b.waited; };
  const double gigabytes = gigabytes_of(content), waited = std::max_element(later, saves.end(), by_wait)->waited;
  nlohmann::json line = {{"saves", in_background ? "in the background" : "waiting"},
                         {"state_gigabytes", gigabytes},
                         {"first_wait_seconds", saves.front().waited},
                         {"longest_later_wait_seconds", waited},
                         {"seconds_until_on_disk", saves.back().written}};
  if (in_background) line["wait_seconds_for_13_gigabytes"] = waited / gigabytes * 13;
  std::printf("%s\n", line.dump().c_str());
}

void time_resume(const Arguments& arguments) {
  const double start = now();
  const CheckpointSearch found = search_checkpoints(arguments.output);
  ECHO_CHECK(found.newest, "no checkpoint in ", arguments.output);
  const double verified = now();
  Model model{.description = described(arguments), .weights = nullptr, .optimizer = nullptr};
  model.weights = load_model(CheckpointReader(*found.newest), {.device = choose_device(arguments.device).device});
  model.optimizer = std::make_unique<AdamW>(*model.weights, OptimizerSettings{});
  restore_optimizer(*model.optimizer, *found.newest, read_manifest(*found.newest));
  const nlohmann::json line = {{"resume_seconds", now() - start}, {"of_them_to_verify", verified - start}};
  std::printf("%s\n", line.dump().c_str());
}

int run(const Arguments& arguments) {
  fs::create_directories(arguments.output);
  write_file_atomically(fs::path(arguments.output) / "log", "");
  write_file_atomically(fs::path(arguments.output) / "tokenizer.model", "not read here");
  {
    const Model model = made(arguments);
    const CheckpointContent content = {.state = {},
                                       .weights = weights_of(*model.weights),
                                       .moments = model.optimizer->state(),
                                       .moment_provider = model.optimizer->state_provider(),
                                       .optimizer_steps = 1,
                                       .description = model.description,
                                       .tokenizer_file = fs::path(arguments.output) / "tokenizer.model",
                                       .config = nlohmann::json::object()};
    time_saves(arguments, content, /*in_background=*/false);
    time_saves(arguments, content, /*in_background=*/true);
  }
  time_resume(arguments);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Times saving of checkpoints and a resume.");
  Arguments arguments;
  app.add_option("--output", arguments.output, "an empty folder for the checkpoints")->required();
  app.add_option("--layers", arguments.layers, "layers of the model");
  app.add_option("--hidden-size", arguments.hidden_size, "width of the model, a multiple of 256");
  app.add_option("--saves", arguments.saves, "number of saves of each kind");
  app.add_option("--device", arguments.device, "auto, cpu, cuda or cuda:N");
  return run_program(app, argc, argv, [&] { return run(arguments); });
}
