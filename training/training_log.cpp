#include "training/training_log.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "base/progress.h"

namespace echo {

using nlohmann::json;

namespace {

// Removes the lines of later steps. Returns the path.
const fs::path& shortened(const fs::path& path, int64_t step) {
  if (!fs::exists(path)) return path;
  std::string kept;
  for (const json& line : TrainingLog::read(path))
    if (line.value("step", int64_t{0}) <= step) kept += line.dump() + "\n";
  write_file_atomically(path, kept);
  return path;
}

}  // namespace

TrainingLog::TrainingLog(const fs::path& path, int64_t step) : file_(shortened(path, step), FileWriter::Start::append) {}

void TrainingLog::write(const json& line) { file_.write(line.dump() + "\n"); }

std::vector<json> TrainingLog::read(const std::filesystem::path& path) {
  std::vector<json> lines;
  const std::string content = read_file(path);
  size_t start = 0, end;
  while ((end = content.find('\n', start)) != std::string::npos) {
    json line = json::parse(content.begin() + ptrdiff_t(start), content.begin() + ptrdiff_t(end), nullptr, false);
    if (line.is_object()) lines.push_back(std::move(line));
    start = end + 1;
  }
  return lines;
}

namespace {

using kernels::Computed;
using kernels::LossTerm;

bool is_computed(Computed when, const LossSettings& settings) {
  return when == Computed::always || (when == Computed::with_teacher && settings.needs_teacher()) ||
         (when == Computed::with_kl_weight && settings.head.kl != 0);
}

template <class Terms>
void put_sums(json& to, const Terms& terms) {
  Terms::visit([&](const LossTerm& term, auto member) { to[term.sum] = terms.*member; });
}

template <class Terms>
void get_sums(Terms& terms, const json& from) {
  Terms::visit([&](const LossTerm& term, auto member) { from.at(term.sum).get_to(terms.*member); });
}

template <class Terms>
void put_means(json& to, const Terms& terms, double tokens, const LossSettings& settings) {
  Terms::visit([&](const LossTerm& term, auto member) {
    if (term.mean != nullptr && is_computed(term.computed, settings)) to[term.mean] = double(terms.*member) / tokens;
  });
}

// The names of the means of the members of type T.
template <class T, class Terms>
void add_names(std::vector<std::string>& to) {
  Terms::visit([&](const LossTerm& term, auto member) {
    if (term.mean != nullptr && std::is_same_v<decltype(member), T Terms::*>) to.emplace_back(term.mean);
  });
}

// The order of the fields in a console line.
std::vector<std::string> console_order() {
  std::vector<std::string> order = {"stage", "model", "reason", "loss"};
  add_names<double, kernels::DistillationTerms>(order);
  add_names<double, kernels::HiddenError>(order);
  add_names<int64_t, kernels::DistillationTerms>(order);
  order.insert(order.end(), {"learning_rate", "grad_norm", "tokens", "tokens_per_second", "data_wait_share",
                             "communication_wait", "peak_memory_bytes", "eta_seconds"});
  return order;
}

}  // namespace

json to_json(const LogWindow& window) {
  json result = {{"steps", window.steps}, {"loss", window.sums.loss}, {"tokens", window.sums.tokens}};
  put_sums(result, window.sums.head);
  put_sums(result, window.sums.hidden);
  return result;
}

LogWindow log_window_from_json(const json& from) {
  LogWindow window;
  window.steps = from.at("steps");
  window.sums.loss = from.at("loss");
  window.sums.tokens = from.at("tokens");
  get_sums(window.sums.head, from);
  get_sums(window.sums.hidden, from);
  return window;
}

json mean_terms(const LossSums& sums, const LossSettings& settings) {
  const double tokens = double(std::max<int64_t>(1, sums.tokens));
  json terms = {{"loss", sums.loss / tokens}};
  put_means(terms, sums.head, tokens, settings);
  if (settings.hidden_weight != 0) put_means(terms, sums.hidden, tokens, settings);
  return terms;
}

json to_json(const EvaluationResult& result, bool with_teacher) {
  json line = {{"loss", result.loss},
               {"accuracy", result.accuracy},
               {"tokens", result.tokens},
               {"tokens_per_second", result.tokens_per_second}};
  if (with_teacher) {
    line["kl_teacher_student"] = result.kl_teacher_student;
    line["agreement"] = result.agreement;
  }
  return line;
}

std::string console_line(const json& line, int64_t total_steps) {
  const std::string event = line.at("event");
  std::string text = fmt::format("step {}/{}", line.at("step").get<int64_t>(), total_steps);
  if (event != "train") text += " " + event;
  static const std::vector<std::string> order = console_order();
  for (const std::string& key : order) {
    if (!line.contains(key)) continue;
    const json& value = line[key];
    if (key == "eta_seconds")
      text += "  eta " + (value.is_number() ? duration_text(value.get<double>()) : "-");
    else if (key == "peak_memory_bytes")
      text += fmt::format("  peak {:.0f} MiB", value.get<double>() / (1 << 20));
    else if (key == "data_wait_share")
      text += fmt::format("  data wait {:.0f} %", 100 * value.get<double>());
    else if (key == "communication_wait")
      text += fmt::format("  communication wait {:.3f} s", value.get<double>());
    else if (key == "tokens_per_second")
      text += fmt::format("  {:.0f} tokens/s", value.get<double>());
    else if (key == "learning_rate")
      text += fmt::format("  lr {:.2e}", value.get<double>());
    else if (value.is_string())
      text += "  " + key + " " + value.get<std::string>();
    else if (value.is_number_integer())
      text += fmt::format("  {} {}", key, value.get<int64_t>());
    else if (value.is_number())
      text += fmt::format("  {} {:.4f}", key, value.get<double>());
    else
      text += "  " + key + " not finite";
  }
  return text;
}

}  // namespace echo
