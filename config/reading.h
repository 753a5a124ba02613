#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/train_config.h"

namespace echo {

// A configuration, with the origin of each value and all problems.
struct ConfigReading {
  TrainConfig config;  // keys with a problem keep their default
  std::string source;  // the file
  std::map<std::string, std::string>
      origins;                        // by full key, e.g. "data.path": "configs/x.yaml:12" or "command line: data.path=..."
  std::vector<std::string> problems;  // one line each: "configs/x.yaml:12: data.path: what is wrong; what is expected; remedy"
  std::set<std::string> faulty;       // full keys with a problem, and keys that an unknown key probably meant
  bool readable = true;               // false: the file is not a YAML mapping, so `config` has nothing from it
};

// Reads `path`, then applies the overrides in order. If an override is given twice, the later one counts.
//
// The file is one YAML mapping in UTF-8, at most 1 MiB, nested like the structs of TrainConfig. Everything that YAML leaves
// open, or that yaml-cpp accepts silently, is a problem: unknown and duplicate keys, values of another type (config/value.h),
// `<<`, anchors, aliases, tags, a second document, keys without a value. After a syntax error no other problem of the file is
// reported.
//
// An override is key.path=value, with the value in YAML syntax ([0, 1] for lists). Text keys take the rest of the argument
// literally, unless it begins with a quote or a bracket, which is read as YAML. So data.path=*.jsonl needs only the quotes of
// the shell.
//
// Throws Error (input_missing) when the file cannot be read. Bad content does not throw.
ConfigReading read_config(const std::filesystem::path& path, const std::vector<std::string>& overrides = {});

// The same for a text. `source` is used as the name of the file.
ConfigReading read_config_text(std::string_view text, const std::string& source,
                               const std::vector<std::string>& overrides = {});

// YAML with every key, its value and its comment. read_config_text() of it gives an equal configuration.
std::string print_config(const TrainConfig& config);

// All keys and values, nested like the YAML.
nlohmann::json config_to_json(const TrainConfig& config);

// Every full key, sections excluded, in the order of the table: "mode", "teacher.model_name_or_path", ...
std::vector<std::string> config_keys();

}  // namespace echo
