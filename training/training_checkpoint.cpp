#include "training/training_checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "nn/checkpoint_writer.h"
#include "weight_files/safetensors.h"

namespace echo {
namespace {

using nlohmann::json;

constexpr const char* kPrefix = "checkpoint-";
constexpr const char* kManifest = "manifest.json";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kUnfinished = ".tmp-";

std::string xxh3_of(const fs::path& file) {
  const MappedFile mapped(file);
  return fmt::format("{:016x}", XXH3_64bits(mapped.bytes().data(), mapped.bytes().size()));
}

std::optional<int64_t> step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  const std::string prefix = kPrefix;
  if (!name.starts_with(prefix) || name.size() == prefix.size() || name.size() > prefix.size() + 15) return std::nullopt;
  const std::string digits = name.substr(prefix.size());
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  return std::stoll(digits);
}

// Checkpoint folders by ascending step.
std::vector<std::pair<int64_t, fs::path>> checkpoints_in(const fs::path& output_dir) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(output_dir, error))
    if (const auto step = step_of(entry.path())) found.emplace_back(*step, entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

NamedTensors tensors_of(const LanguageModel& model) {
  NamedTensors tensors;
  for (NamedTensor& part : model.named_tensors()) tensors.emplace_back(part.name, part.tensor);
  return tensors;
}

// Fills a new folder beside `folder` with `write`, then renames it to `folder`.
void write_folder_atomically(const fs::path& folder, const std::function<void(const fs::path&)>& write) {
  const fs::path temporary = folder.string() + kUnfinished + std::to_string(::getpid());
  std::error_code ignored;
  fs::remove_all(temporary, ignored);
  try {
    write(temporary);
    sync_folder(temporary);
    // An older folder of that name is exchanged with the new one, so there is always one of them.
    const bool replaces = fs::exists(folder);
    if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, folder.c_str(), replaces ? RENAME_EXCHANGE : 0) != 0)
      fail(ExitCode::io, folder.string(), ": cannot be put in place: ", std::strerror(errno));
    sync_folder(folder.parent_path());
    if (replaces) fs::remove_all(temporary, ignored);
  } catch (...) {
    fs::remove_all(temporary, ignored);
    throw;
  }
}

json state_to_json(const TrainingState& state) {
  json result = {{"step", state.step},
                 {"stage_index", state.stage_index},
                 {"stage_step", state.stage_step},
                 {"tokens", state.tokens},
                 {"skipped", state.skipped},
                 {"skipped_in_a_row", state.skipped_in_a_row},
                 {"seconds", state.seconds},
                 {"world", state.world},
                 {"cursor", to_json(state.cursor)},
                 {"window", to_json(state.window)}};
  if (!state.data_pin.is_null()) result["data"] = state.data_pin;
  return result;
}

struct SequencesPerStep {
  int64_t count;
  std::string product;  // as text
};

SequencesPerStep sequences_per_step(const json& config, int64_t world) {
  const int64_t rows = config.value("per_device_train_batch_size", int64_t{1}),
                micro_batches = config.value("gradient_accumulation_steps", int64_t{1});
  return {rows * micro_batches * world, concat(rows, " * ", micro_batches, " * ", world)};
}

}  // namespace

void remove_unfinished(const fs::path& output_dir) {
  std::error_code error;
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(output_dir, error))
    if (entry.path().filename().string().find(kUnfinished) != std::string::npos) leftovers.push_back(entry.path());
  for (const fs::path& leftover : leftovers) fs::remove_all(leftover, error);
}

fs::path save_checkpoint(const fs::path& output_dir, const TrainingState& state, const LanguageModel& model,
                         const AdamW& optimizer, const ModelDescription& description, const fs::path& tokenizer_file,
                         const json& config, int64_t keep) {
  const fs::path folder = output_dir / (kPrefix + std::to_string(state.step));
  write_folder_atomically(folder, [&](const fs::path& temporary) {
    save_model_folder(temporary, description, tensors_of(model), {.tokenizer = tokenizer_file});
    write_safetensors(temporary / kOptimizer, optimizer.state());
    json files = json::array();
    for (const fs::directory_entry& entry : fs::directory_iterator(temporary))
      files.push_back({{"name", entry.path().filename().string()},
                       {"bytes", int64_t(fs::file_size(entry.path()))},
                       {"xxh3", xxh3_of(entry.path())}});
    const json manifest = {{"format", 1},
                           {"leader_map", description.leader_map.to_json()},
                           {"state", state_to_json(state)},
                           {"optimizer_steps", optimizer.steps()},
                           {"config", config},
                           {"files", files}};
    write_file_atomically(temporary / kManifest, manifest.dump(1) + "\n");
  });
  const auto all = checkpoints_in(output_dir);
  std::error_code ignored;
  for (size_t i = 0; keep > 0 && i + size_t(keep) < all.size(); ++i) fs::remove_all(all[i].second, ignored);
  return folder;
}

void save_model_atomically(const fs::path& folder, const LanguageModel& model, const ModelDescription& description,
                           const fs::path& tokenizer_file) {
  write_folder_atomically(folder, [&](const fs::path& temporary) {
    save_model_folder(temporary, description, tensors_of(model), {.tokenizer = tokenizer_file});
  });
}

json verified_manifest(const fs::path& checkpoint) {
  const fs::path file = checkpoint / kManifest;
  const json manifest = json::parse(read_file(file), nullptr, false);
  const auto damaged = [&](const auto&... parts) { fail(ExitCode::bad_data, file.string(), ": ", parts...); };
  if (!manifest.is_object()) damaged("not a JSON object");
  try {
    if (manifest.at("format") != 1) damaged("format ", manifest.at("format").dump(), "; this program reads format 1");
    for (const json& entry : manifest.at("files")) {
      const fs::path path = checkpoint / fs::path(entry.at("name").get<std::string>()).filename();
      if (!fs::exists(path)) damaged(path.filename().string(), " is missing");
      if (int64_t(fs::file_size(path)) != entry.at("bytes").get<int64_t>() || xxh3_of(path) != entry.at("xxh3"))
        damaged(path.filename().string(), " is damaged: its content is not what was saved");
    }
    state_from_manifest(manifest);
    manifest.at("optimizer_steps").get<int64_t>();
    if (!manifest.at("config").is_object()) damaged("config is not a mapping");
  } catch (const json::exception& error) {
    damaged("a field is missing or has the wrong type: ", error.what());
  }
  return manifest;
}

std::optional<fs::path> newest_checkpoint(const fs::path& output_dir, std::vector<std::string>& remarks) {
  auto all = checkpoints_in(output_dir);
  for (auto candidate = all.rbegin(); candidate != all.rend(); ++candidate) {
    try {
      verified_manifest(candidate->second);
      return candidate->second;
    } catch (const Error& error) {
      remarks.push_back(concat("skipping a damaged checkpoint: ", error.what()));
    }
  }
  return std::nullopt;
}

TrainingState state_from_manifest(const json& manifest) {
  const json& from = manifest.at("state");
  TrainingState state;
  state.step = from.at("step");
  state.stage_index = from.at("stage_index");
  state.stage_step = from.at("stage_step");
  state.tokens = from.at("tokens");
  state.skipped = from.at("skipped");
  state.skipped_in_a_row = from.at("skipped_in_a_row");
  state.seconds = from.at("seconds");
  state.world = from.value("world", int64_t{1});  // earlier versions trained with one process and did not write it
  state.cursor = data_cursor_from_json(from.at("cursor"));
  state.window = log_window_from_json(from.at("window"));
  state.data_pin = from.value("data", json());
  return state;
}

void restore_optimizer(AdamW& optimizer, const fs::path& checkpoint, const json& manifest) {
  optimizer.restore(SafetensorsReader(checkpoint / kOptimizer), manifest.at("optimizer_steps"));
}

void check_same_run(const json& stored_config, const json& config, const fs::path& checkpoint, int64_t stored_world,
                    int64_t world) {
  static const std::vector<std::string> kFree = {"/output_dir",
                                                 "/resume_from_checkpoint",
                                                 "/logging_steps",
                                                 "/eval_steps",
                                                 "/eval_rows",
                                                 "/per_device_eval_batch_size",
                                                 "/save_steps",
                                                 "/save_total_limit",
                                                 "/report",
                                                 "/threads",
                                                 "/device",
                                                 "/per_device_train_batch_size",  // their product is checked
                                                 "/gradient_accumulation_steps",
                                                 "/data/cache_gib",
                                                 "/data/cache_folder",
                                                 "/data/max_skipped_shards",
                                                 "/data/shuffle_tokens"};  // the packer checks the saved position
  // What earlier versions did, which did not have these keys.
  static const std::map<std::string, json> kBefore = {{"/data/shuffle", false}, {"/data/set_weights", nullptr}};
  const json stored = stored_config.flatten(), now = config.flatten();
  std::string changed;
  for (const auto& [key, value] : now.items()) {
    if (std::find(kFree.begin(), kFree.end(), key) != kFree.end()) continue;
    const auto before = kBefore.find(key);
    const json* const old = stored.contains(key) ? &stored[key] : before != kBefore.end() ? &before->second : nullptr;
    if (old && *old == value) continue;
    std::string name = key.substr(1);
    std::replace(name.begin(), name.end(), '/', '.');
    changed += concat(changed.empty() ? "" : ", ", name, " (", old ? old->dump() : "absent", " -> ", value.dump(), ")");
  }
  for (const auto& [key, value] : stored.items())
    if (!now.contains(key)) changed += concat(changed.empty() ? "" : ", ", key.substr(1), " (", value.dump(), " -> absent)");
  const SequencesPerStep before = sequences_per_step(stored_config, stored_world), after = sequences_per_step(config, world);
  if (before.count != after.count)
    changed +=
        concat(changed.empty() ? "" : ", ", "per_device_train_batch_size * gradient_accumulation_steps * number of processes (",
               before.product, " -> ", after.product, ")");
  if (!changed.empty())
    fail(ExitCode::config, checkpoint.string(), ": was saved with other settings: ", changed,
         "; restore the old settings, or use another output_dir to start from the beginning");
}

}  // namespace echo
