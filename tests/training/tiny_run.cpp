#include "tests/training/tiny_run.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <set>

#include "base/file.h"
#include "config/reading.h"
#include "data/synthetic_source.h"
#include "tokenizer/training.h"
#include "training/run_folder.h"
#include "training/trainer.h"

namespace echo {
namespace {

using nlohmann::json;

TrainConfig tiny_config(const fs::path& output_dir) {
  TrainConfig config;
  config.output_dir = output_dir.string();
  config.data.sequence_length = 32;
  config.device = "cpu";
  config.per_device_train_batch_size = 2;
  config.gradient_accumulation_steps = 2;
  config.per_device_eval_batch_size = 4;
  config.eval_rows = 8;
  config.learning_rate = 3e-3;
  config.logging_steps = 1;
  config.save_steps = 3;
  config.save_total_limit = 0;
  config.threads = 1;
  return config;
}

struct MadeInputs {
  TemporaryFolder folder;
  TinyInputs inputs{folder / "corpus", folder / "tokenizer.model", folder / "teacher/final"};

  MadeInputs() {
    write_story_corpus(inputs.corpus, /*documents=*/60, /*seed=*/3);
    std::vector<std::string> texts;
    for (uint64_t index = 0; index < 60; ++index) texts.push_back(make_story(3, index));
    train_tokenizer(texts, 350, inputs.tokenizer);
    TrainConfig config = tiny_config(folder / "teacher");
    config.mode = settings::Mode::pretrain;
    config.model.hidden_size = 32;
    config.model.intermediate_size = 48;
    config.model.num_hidden_layers = 4;
    config.model.num_attention_heads = 4;
    config.model.num_key_value_heads = 2;
    config.model.max_position_embeddings = 64;
    config.model.initializer_range = 0.4;  // large, so that attention matters from the first step
    config.tokenizer = inputs.tokenizer.string();
    config.data.path = inputs.corpus.string();
    config.max_steps = 20;
    config.report = false;
    RunFolder recorder(config);
    TrainingRun run = prepare_run(config, resolve_inputs(config));
    Trainer(run, recorder).train();
  }
};

// Values that depend on the machine and the time.
void remove_times(json& line) {
  for (const char* key : {"tokens_per_second", "data_wait_share", "communication_wait", "save_stall_seconds",
                          "peak_memory_bytes", "eta_seconds", "seconds"})
    line.erase(key);
}

std::set<std::string> folders_of(const fs::path& run) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(run))
    if (entry.is_directory()) names.insert(entry.path().filename().string());
  return names;
}

}  // namespace

const TinyInputs& tiny_inputs() {
  static const MadeInputs made;
  return made.inputs;
}

TrainConfig tiny_pretraining(const fs::path& output_dir) {
  TrainConfig config = tiny_config(output_dir);
  config.mode = settings::Mode::pretrain;
  config.model.hidden_size = 16;
  config.model.intermediate_size = 24;
  config.model.num_hidden_layers = 3;
  config.model.num_attention_heads = 2;
  config.tokenizer = tiny_inputs().tokenizer.string();
  config.data.path = tiny_inputs().corpus.string();
  config.max_steps = 6;
  return config;
}

TrainConfig tiny_distillation(const fs::path& output_dir) {
  TrainConfig config = tiny_config(output_dir);
  config.teacher.model_name_or_path = tiny_inputs().teacher.string();
  config.student.leader_map = {0, 1, 1, 3};
  config.data.path = tiny_inputs().corpus.string();
  config.data.epoch_tokens = 8 * 2 * 2 * 32;
  config.stage2.num_train_epochs = 0.5;
  config.eval_steps = 5;
  return config;
}

std::unique_ptr<TemporaryFolder> memory_folder() {
  std::optional<ScopedEnvironment> in_memory;
  if (::access("/dev/shm", W_OK) == 0) in_memory.emplace("TMPDIR", "/dev/shm");
  return std::make_unique<TemporaryFolder>();
}

std::string written(const TrainConfig& config, const fs::path& file) {
  write_file_atomically(file, print_config(config));
  return file.string();
}

std::vector<std::string> differences(const fs::path& a, const fs::path& b) {
  std::vector<std::string> found;
  const std::set<std::string> folders = folders_of(a);
  if (folders != folders_of(b))
    found.push_back("folders: " + std::to_string(folders.size()) + " and " + std::to_string(folders_of(b).size()));
  for (const std::string& folder : folders) {
    for (const char* file : {"model.safetensors", "optimizer.safetensors", "config.json"}) {
      if (fs::exists(a / folder / file) != fs::exists(b / folder / file))
        found.push_back(folder + "/" + file + " is missing in one");
      else if (fs::exists(a / folder / file) && read_file(a / folder / file) != read_file(b / folder / file))
        found.push_back(folder + "/" + file);
    }
    if (!fs::exists(a / folder / "manifest.json") || !fs::exists(b / folder / "manifest.json")) continue;
    json states[] = {json::parse(read_file(a / folder / "manifest.json"))["state"],
                     json::parse(read_file(b / folder / "manifest.json"))["state"]};
    for (json& state : states) remove_times(state);
    if (states[0] != states[1]) found.push_back(folder + ": states " + states[0].dump() + " and " + states[1].dump());
  }
  std::vector<json> logs[] = {TrainingLog::read(a / "trainer_log.jsonl"), TrainingLog::read(b / "trainer_log.jsonl")};
  if (logs[0].size() != logs[1].size())
    found.push_back("log: " + std::to_string(logs[0].size()) + " and " + std::to_string(logs[1].size()) + " lines");
  for (size_t i = 0; i < std::min(logs[0].size(), logs[1].size()); ++i) {
    for (auto& log : logs) remove_times(log[i]);
    if (logs[0][i] != logs[1][i]) found.push_back("log: " + logs[0][i].dump() + " and " + logs[1][i].dump());
  }
  return found;
}

}  // namespace echo
