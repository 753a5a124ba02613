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

// A configuration with where its values came from and everything that was wrong with them.
struct ConfigReading {
  TrainConfig config;  // keys with a problem keep their default
  std::string source;  // the file
  std::map<std::string, std::string>
      origins;                        // by full key, e.g. "data.path": "configs/x.yaml:12" or "command line: data.path=..."
  std::vector<std::string> problems;  // one line each: "configs/x.yaml:12: data.path: what is wrong; what is expected; remedy"
  std::set<std::string> faulty;       // full keys with a problem, and those that an unknown key probably meant
  bool readable = true;               // false: the file is no YAML mapping, nothing of it is in `config`
};

// Reads `path`, then applies the overrides in order; the later one counts when a key is given twice there.
//
// The file is one YAML mapping in UTF-8, at most 1 MiB, nested like the structs of TrainConfig. Everything that YAML
// leaves open or yaml-cpp lets pass is a problem: unknown and duplicate keys, values of another type
// (config/value.h), `<<`, anchors, aliases, tags, a second document, keys without a value. A syntax error is
// the only problem of its file that is reported.
//
// An override is key.path=value with the value written as in YAML ([0, 1] for lists). Text keys take the rest of the
// argument as it stands, unless it begins with a quote or a bracket, which YAML reads: data.path=*.jsonl needs no
// quotes beyond the shell's.
//
// Throws Error (input_missing) when the file cannot be read, and nothing else for bad content.
ConfigReading read_config(const std::filesystem::path& path, const std::vector<std::string>& overrides = {});

// The same from a text that stands for the file `source`.
ConfigReading read_config_text(std::string_view text, const std::string& source,
                               const std::vector<std::string>& overrides = {});

// YAML with every key, its value and its comment; read_config_text of it gives an equal configuration.
std::string print_config(const TrainConfig& config);

// All keys and values, nested like the YAML.
nlohmann::json config_to_json(const TrainConfig& config);

// Every full key, sections excluded, in the order of the table: "mode", "teacher.model_name_or_path", ...
std::vector<std::string> config_keys();

}  // namespace echo
