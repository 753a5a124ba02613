#include "training/training_checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "nn/checkpoint_writer.h"
#include "weight_files/safetensors.h"

namespace echo {
namespace {

using nlohmann::json;

constexpr const char* kPrefix = "checkpoint-";
constexpr const char* kManifest = "manifest.json";
constexpr const char* kManifestHash = "manifest_xxh3";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kUnfinished = ".tmp-";

std::string hexadecimal(XXH64_hash_t hash) { return fmt::format("{:016x}", hash); }

std::string xxh3_of(const fs::path& file) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(), &XXH3_freeState);
  XXH3_64bits_reset(hash.get());
  read_in_parts(file, [&](std::string_view part) { XXH3_64bits_update(hash.get(), part.data(), part.size()); });
  return hexadecimal(XXH3_64bits_digest(hash.get()));
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

// The text of a manifest with its own hash in it: the hash of the text that has zeros in its place.
std::string with_hash(json manifest) {
  manifest[kManifestHash] = hexadecimal(0);
  std::string text = manifest.dump(1) + "\n";
  const std::string hash = hexadecimal(XXH3_64bits(text.data(), text.size()));
  return text.replace(text.find(hexadecimal(0)), hash.size(), hash);
}

// Throws Error (bad_data) when the text is not what with_hash() made.
void check_hash(const json& manifest, std::string text, const fs::path& file) {
  const std::string stored = manifest.at(kManifestHash);
  const size_t at = text.find(stored);
  if (at != std::string::npos) text.replace(at, stored.size(), hexadecimal(0));
  const std::string hash = hexadecimal(XXH3_64bits(text.data(), text.size()));
  if (hash != stored) fail(ExitCode::bad_data, file.string(), ": is damaged: its XXH3 is ", hash, ", ", stored, " was saved");
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

NamedTensors weights_of(const LanguageModel& model) {
  NamedTensors tensors;
  for (NamedTensor& part : model.named_tensors()) tensors.emplace_back(part.name, part.tensor);
  return tensors;
}

fs::path save_checkpoint(const fs::path& output_dir, const CheckpointContent& content, int64_t keep) {
  const fs::path folder = output_dir / (kPrefix + std::to_string(content.state.step));
  write_folder_atomically(folder, [&](const fs::path& temporary) {
    save_model_folder(temporary, content.description, content.weights, {.tokenizer = content.tokenizer_file});
    write_safetensors(temporary / kOptimizer, content.moments, content.moment_provider);
    json files = json::array();
    for (const fs::directory_entry& entry : fs::directory_iterator(temporary))
      files.push_back({{"name", entry.path().filename().string()},
                       {"bytes", int64_t(fs::file_size(entry.path()))},
                       {"xxh3", xxh3_of(entry.path())}});
    const json manifest = {{"format", 2},
                           {"leader_map", content.description.leader_map.to_json()},
                           {"state", state_to_json(content.state)},
                           {"optimizer_steps", content.optimizer_steps},
                           {"config", content.config},
                           {"files", files}};
    write_file_atomically(temporary / kManifest, with_hash(manifest));
  });
  prune_checkpoints(output_dir, content.state.step, keep);
  return folder;
}

void prune_checkpoints(const fs::path& output_dir, int64_t step, int64_t keep) {
  auto all = checkpoints_in(output_dir);
  std::erase_if(all, [&](const auto& checkpoint) { return checkpoint.first > step; });
  for (size_t i = 0; keep > 0 && i + size_t(keep) < all.size(); ++i) {
    const fs::path aside = all[i].second.string() + kUnfinished + "old";
    std::error_code error;
    fs::rename(all[i].second, aside, error);
    fs::remove_all(error ? all[i].second : aside, error);
  }
}

void save_model_atomically(const fs::path& folder, const LanguageModel& model, const ModelDescription& description,
                           const fs::path& tokenizer_file) {
  write_folder_atomically(folder, [&](const fs::path& temporary) {
    save_model_folder(temporary, description, weights_of(model), {.tokenizer = tokenizer_file});
  });
}

json read_manifest(const fs::path& checkpoint) {
  const fs::path file = checkpoint / kManifest;
  const std::string text = read_file(file);
  const json manifest = json::parse(text, nullptr, false);
  const auto damaged = [&](const auto&... parts) { fail(ExitCode::bad_data, file.string(), ": ", parts...); };
  if (!manifest.is_object()) damaged("not a JSON object");
  try {
    const json& format = manifest.at("format");  // 1 was of earlier versions, without the hash of the manifest
    if (format != 1 && format != 2) damaged("format ", format.dump(), "; this program reads formats 1 and 2");
    if (format == 2) check_hash(manifest, text, file);
    for (const json& entry : manifest.at("files")) {
      entry.at("name").get<std::string>();
      entry.at("bytes").get<int64_t>();
      entry.at("xxh3").get<std::string>();
    }
    state_from_manifest(manifest);
    manifest.at("optimizer_steps").get<int64_t>();
    if (!manifest.at("config").is_object()) damaged("config is not a mapping");
  } catch (const json::exception& error) {
    damaged("a field is missing or has the wrong type: ", error.what());
  }
  return manifest;
}

json verified_manifest(const fs::path& checkpoint) {
  json manifest = read_manifest(checkpoint);
  const auto damaged = [&](const auto&... parts) {
    fail(ExitCode::bad_data, (checkpoint / kManifest).string(), ": ", parts...);
  };
  for (const json& entry : manifest["files"]) {
    const fs::path path = checkpoint / fs::path(entry["name"].get<std::string>()).filename();
    const std::string name = path.filename();
    if (!fs::exists(path)) damaged(name, " is missing");
    const int64_t size = int64_t(fs::file_size(path)), saved_size = entry["bytes"];
    if (size != saved_size) damaged(name, " has ", size, " bytes, ", saved_size, " were saved");
    const std::string hash = xxh3_of(path), saved_hash = entry["xxh3"];
    if (hash != saved_hash) damaged(name, " is damaged: its XXH3 is ", hash, ", ", saved_hash, " was saved");
  }
  return manifest;
}

CheckpointSearch search_checkpoints(const fs::path& output_dir) {
  CheckpointSearch search;
  auto all = checkpoints_in(output_dir);
  for (auto candidate = all.rbegin(); candidate != all.rend() && !search.newest; ++candidate) {
    try {
      verified_manifest(candidate->second);
      search.newest = candidate->second;
    } catch (const std::runtime_error& error) {  // an Error, or one of std::filesystem when the folder cannot be read
      search.damaged.push_back(candidate->second);
      search.problems.push_back(error.what());
    }
  }
  return search;
}

void set_aside(const std::vector<fs::path>& damaged) {
  for (const fs::path& folder : damaged) {
    const fs::path aside = folder.string() + ".damaged";
    std::error_code ignored;
    fs::remove_all(aside, ignored);
    fs::rename(folder, aside, ignored);
  }
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
                                                 "/async_save",
                                                 "/report",
                                                 "/threads",
                                                 "/gradient_bucket_mib",
                                                 "/shard_optimizer",
                                                 "/shard_teacher",
                                                 "/comm_timeout",
                                                 "/device",
                                                 "/per_device_train_batch_size",  // their product is checked
                                                 "/gradient_accumulation_steps",
                                                 "/data/cache_gib",
                                                 "/data/cache_folder",
                                                 "/data/max_skipped_shards",
                                                 "/data/shuffle_tokens"};  // the packer checks the saved position
  // What earlier versions did, which did not have these keys.
  static const std::map<std::string, json> kBefore = {
      {"/data/shuffle", false}, {"/data/set_weights", nullptr}, {"/gradient_wire", "float32"}};
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
