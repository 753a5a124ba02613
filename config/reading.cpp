#include "config/reading.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "config/value.h"
#include "config/yaml_reader.h"

namespace echo {
namespace {

constexpr size_t kMostProblems = 100;  // a file of another kind would fill the screen

// Names that papers and other programs use for our keys, and that are too different to be found by spelling.
constexpr std::pair<std::string_view, std::string_view> kShortNames[] = {
    {"lr", "learning_rate"},
    {"alpha", "distillation.hidden_weight"},
    {"beta", "distillation.kl_weight"},
    {"gamma", "distillation.hard_label_weight"},
    {"batch_size", "per_device_train_batch_size"},
};

struct AnyVisitor {
  template <class T>
  void operator()(const char*, T&, const char*) {}
};

// A struct with its own table of keys, in contrast to a value.
template <class T>
concept Section = requires(T& section, AnyVisitor& visitor) {
  std::remove_const_t<T>::visit(section, visitor);
};

std::string join(const std::string& section, const std::string& name) { return section.empty() ? name : section + "." + name; }

// Calls leaf(full key, value) for every value of the table, including nested ones.
template <class Leaf>
struct LeafVisitor {
  Leaf& leaf;
  std::string prefix;
  template <class T>
  void operator()(const char* name, T& value, const char*) {
    const std::string key = join(prefix, name);
    if constexpr (Section<T>) {
      LeafVisitor nested{leaf, key};
      std::remove_const_t<T>::visit(value, nested);
    } else {
      leaf(key, value);
    }
  }
};

template <class Self, class Leaf>
void for_each_value(Self& config, Leaf leaf) {
  LeafVisitor<Leaf> visitor{leaf, ""};
  TrainConfig::visit(config, visitor);
}

class Reader {
 public:
  explicit Reader(ConfigReading& reading) : reading_(reading) {
    for_each_value(reading.config, [&](const std::string& key, auto& value) {
      for (size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.', dot + 1)) add_section(key.substr(0, dot));
      Value bound;
      using Type = std::remove_cvref_t<decltype(value)>;
      bound.is_text = std::is_same_v<Type, std::string> || std::is_same_v<Type, PathList>;
      bound.read = [&value](const YamlNode& node) { return read_value(node, value); };
      values_.emplace(key, std::move(bound));
      names_.push_back(key);
    });
  }

  void file(std::string_view text) {
    const YamlDocument document = read_yaml(text);
    const YamlNode& root = document.root;
    reading_.readable = document.error.empty() && root.flaw.empty() && root.kind == YamlNode::Kind::mapping;
    if (!document.error.empty()) {
      problem(at(document.error_line), "", document.error);
    } else if (!root.flaw.empty()) {
      problem(at(root.line), "", root.flaw);
    } else if (root.kind == YamlNode::Kind::null) {
      problem(reading_.source, "", "holds no settings; lines of the form key: value are expected");
    } else if (root.kind != YamlNode::Kind::mapping) {
      problem(at(root.line), "", "is not a mapping; lines of the form key: value are expected");
    } else {
      mapping(root, "");
    }
  }

  void override_with(const std::string& argument) {
    const std::string where = "command line: " + shown(argument);
    const size_t equals = argument.find('=');
    if (equals == std::string::npos || equals == 0)
      return problem(where, "", "is not an override; key.path=value is expected, e.g. learning_rate=1e-4");
    const std::string key = argument.substr(0, equals);
    const std::string text = argument.substr(equals + 1);
    const auto value = values_.find(key);
    if (is_section(key)) return problem(where, key, concat("is a section; set one of its keys, e.g. ", first_key(key), "=..."));
    if (value == values_.end()) return unknown(where, key);
    YamlNode node;
    const bool yaml = text.starts_with('"') || text.starts_with('\'') || text.starts_with('[') || text.starts_with('{');
    if (value->second.is_text && !yaml) {
      if (!is_valid_utf8(text)) return problem(where, key, "is not UTF-8; text in UTF-8 is expected");
      node.kind = YamlNode::Kind::scalar;
      node.quoted = true;
      node.text = text;
    } else {
      YamlDocument document = read_yaml(text);
      if (!document.error.empty()) return problem(where, key, "the value " + document.error);
      node = std::move(document.root);
    }
    assign(where, key, node);
  }

 private:
  struct Value {
    bool is_text = false;
    std::function<std::string(const YamlNode&)> read;  // assigns the value, or returns the problem
  };

  void add_section(const std::string& name) {
    if (is_section(name)) return;
    sections_.push_back(name);
    names_.push_back(name);
  }
  bool is_section(const std::string& key) const {
    return std::find(sections_.begin(), sections_.end(), key) != sections_.end();
  }
  std::string first_key(const std::string& section) const {
    for (const std::string& name : names_)
      if (values_.contains(name) && name.starts_with(section + ".")) return name;
    return section;
  }

  std::string at(int line) const { return line > 0 ? concat(reading_.source, ":", line) : reading_.source; }

  static std::string shown(const std::string& text) {
    const std::string quoted = quote(text);
    return quoted.substr(1, quoted.size() - 2);
  }

  void problem(const std::string& where, const std::string& key, const std::string& text) {
    reading_.faulty.insert(key);
    ++count_;
    if (count_ <= kMostProblems) reading_.problems.push_back(concat(where, ": ", shown(key), key.empty() ? "" : ": ", text));
    if (count_ == kMostProblems) reading_.problems.push_back(reading_.source + ": further problems are not listed");
  }

  void unknown(const std::string& where, const std::string& key) {
    if (count_ >= kMostProblems) return problem(where, key, "");
    // The same name in another section comes first: kl_weight means distillation.kl_weight.
    const std::string last = key.substr(key.rfind('.') + 1);
    std::string nearest;
    for (const std::string& name : names_)
      if (nearest.empty() && name.substr(name.rfind('.') + 1) == last) nearest = name;
    for (const auto& [name, meant] : kShortNames)
      if (nearest.empty() && name == last) nearest = meant;
    if (nearest.empty()) nearest = nearest_name(key, names_);
    // the value was probably meant for this key, so it is not also reported as missing
    if (!nearest.empty()) reading_.faulty.insert(nearest);
    problem(
        where, key,
        nearest.empty() ? "unknown key; --print-config lists all of them" : concat("unknown key; did you mean ", nearest, "?"));
  }

  void mapping(const YamlNode& node, const std::string& prefix) {
    std::map<std::string, int> seen;
    for (const auto& [name, value] : node.entries) {
      const std::string where = at(name.line);
      if (!name.flaw.empty()) {
        problem(where, prefix, "a key: " + name.flaw);
        continue;
      }
      if (name.kind != YamlNode::Kind::scalar) {
        problem(where, prefix, "a key that is not text; lines of the form key: value are expected");
        continue;
      }
      const std::string key = join(prefix, name.text);
      if (name.text == "<<" && !name.quoted) {
        problem(where, key, "merge keys are not accepted; write the merged keys themselves");
      } else if (const auto [first, fresh] = seen.emplace(name.text, name.line); !fresh) {
        problem(where, key, concat("is given again, first in line ", first->second, "; each key is expected once, keep one"));
      } else if (is_section(key)) {
        section(value, key, where);
      } else if (!values_.contains(key)) {
        unknown(where, key);
      } else if (name.text.find('.') != std::string::npos) {
        problem(where, key, "a key with a dot; in a file keys are nested, one section per line and level");
      } else {
        assign(where, key, value);
      }
    }
  }

  void section(const YamlNode& node, const std::string& key, const std::string& where) {
    if (!node.flaw.empty()) return problem(where, key, node.flaw);
    if (node.kind == YamlNode::Kind::mapping) return mapping(node, key);
    problem(where, key,
            concat(node.kind == YamlNode::Kind::null ? "is empty" : "is not a section", "; nested keys such as ",
                   first_key(key), " are expected, or leave it out"));
  }

  void assign(const std::string& where, const std::string& key, const YamlNode& node) {
    const std::string wrong = values_.at(key).read(node);
    if (!wrong.empty()) return problem(where, key, wrong);
    reading_.origins[key] = where;
  }

  ConfigReading& reading_;
  std::map<std::string, Value> values_;
  std::vector<std::string> sections_;
  std::vector<std::string> names_;  // of values and sections, in the order of the table
  size_t count_ = 0;
};

struct KeyPrinter {
  std::string& out;
  int depth;

  void comment(std::string_view text) {
    const std::string margin(size_t(depth) * 2, ' ');
    constexpr size_t width = 110;
    while (!text.empty()) {
      size_t cut = text.size() <= width ? text.size() : text.rfind(' ', width);
      if (cut == std::string_view::npos) cut = text.size();
      out += margin + "# " + std::string(text.substr(0, cut)) + "\n";
      text.remove_prefix(std::min(text.size(), cut + 1));
    }
  }

  template <class T>
  void operator()(const char* name, T& value, const char* about) {
    const std::string margin(size_t(depth) * 2, ' ');
    if constexpr (Section<T>) {
      if (!out.ends_with("\n\n")) out += "\n";
      comment(about);
      out += margin + name + ":\n";
      KeyPrinter nested{out, depth + 1};
      std::remove_const_t<T>::visit(value, nested);
      if (depth == 0) out += "\n";
    } else {
      comment(about);
      out += margin + name + ": " + print_value(value) + "\n";
    }
  }
};

std::string content_of(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored))
    fail(ExitCode::input_missing, path.string(), ": no such file; the path of a YAML file is expected, configs/ holds some");
  if (fs::is_directory(path, ignored))
    fail(ExitCode::input_missing, path.string(), ": is a folder; the path of a YAML file is expected, configs/ holds some");
  // Not read_file, because the path may be an endless device or a huge file. Slightly more than the limit is enough to see that
  // it is too large.
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ExitCode::input_missing, path.string(), ": cannot be opened; check that you may read it");
  std::string text(kMaximumYamlBytes + 1, '\0');
  file.read(text.data(), std::streamsize(text.size()));
  if (file.bad()) fail(ExitCode::input_missing, path.string(), ": cannot be read");
  text.resize(size_t(file.gcount()));
  return text;
}

}  // namespace

ConfigReading read_config_text(std::string_view text, const std::string& source, const std::vector<std::string>& overrides) {
  ConfigReading reading;
  reading.source = source;
  Reader reader(reading);
  reader.file(text);
  for (const std::string& argument : overrides) reader.override_with(argument);
  return reading;
}

ConfigReading read_config(const fs::path& path, const std::vector<std::string>& overrides) {
  return read_config_text(content_of(path), path.string(), overrides);
}

std::string print_config(const TrainConfig& config) {
  std::string text;
  KeyPrinter printer{text, 0};
  TrainConfig::visit(config, printer);
  return text;
}

nlohmann::json config_to_json(const TrainConfig& config) {
  nlohmann::json json = nlohmann::json::object();
  for_each_value(config, [&](const std::string& key, const auto& value) {
    std::string pointer = "/" + key;
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    json[nlohmann::json::json_pointer(pointer)] = json_value(value);
  });
  return json;
}

std::vector<std::string> config_keys() {
  std::vector<std::string> keys;
  const TrainConfig config;
  for_each_value(config, [&](const std::string& key, const auto&) { keys.push_back(key); });
  return keys;
}

}  // namespace echo
