#include "training/run_facts.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "config/reading.h"
#include "data/source_factory.h"
#include "nn/model_description.h"

namespace echo {
namespace {

std::string hash_of(const fs::path& file) {
  const MappedFile mapped(file);
  return fmt::format("{:016x}", XXH3_64bits(mapped.bytes().data(), mapped.bytes().size()));
}

std::string model_fact(const fs::path& folder) {
  uintmax_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file()) bytes += entry.file_size();
  return concat(identify_model(folder, "").config_xxh3, " (", bytes, " bytes)");
}

std::string data_fact(const PathList& paths, const RemoteData* remote) {
  return paths.empty() ? "none" : fmt::format("{:016x}", fingerprint_of_files(find_data_files(paths, remote)));
}

}  // namespace

Facts facts_of_run(const TrainConfig& config, const ResolvedInputs& inputs) {
  Facts facts;
  const nlohmann::json settings = config_to_json(config).flatten();
  for (const auto& [key, value] : settings.items()) {
    std::string name = key.substr(1);
    std::replace(name.begin(), name.end(), '/', '.');
    facts[name] = value.dump();
  }
  facts["the program"] = hash_of("/proc/self/exe");
  facts["the tokenizer"] = hash_of(inputs.tokenizer);
  const DataPaths& data = inputs.data.paths;
  facts["the training data"] = data_fact(data.training, data.remote.get());
  facts["the held-out data"] = data_fact(data.validation, data.remote.get());
  if (inputs.teacher) facts["the teacher"] = model_fact(*inputs.teacher);
  if (inputs.start) facts["the start model"] = model_fact(*inputs.start);
  return facts;
}

}  // namespace echo
