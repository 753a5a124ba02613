#include "training/training_log.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"

namespace echo {

using nlohmann::json;

TrainingLog::TrainingLog(std::filesystem::path path, int64_t step) : path_(std::move(path)) {
  if (!std::filesystem::exists(path_)) return;
  std::string kept;
  for (const json& line : read(path_))
    if (line.value("step", int64_t{0}) <= step) kept += line.dump() + "\n";
  write_file_atomically(path_, kept);
}

void TrainingLog::write(const json& line) {
  std::ofstream out(path_, std::ios::app);
  out << line.dump() << '\n' << std::flush;
  if (!out) fail(ExitCode::io, path_.string(), ": writing failed");
}

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

json to_json(const LogWindow& window) {
  const auto& [head, hidden, loss, tokens] = window.sums;
  return {{"steps", window.steps},
          {"loss", loss},
          {"tokens", tokens},
          {"kl", head.kl},
          {"kl_student_teacher", head.kl_student_teacher},
          {"kl_teacher_student", head.kl_teacher_student},
          {"jensen_shannon", head.jensen_shannon},
          {"hard_label", head.hard_label},
          {"true_label", head.true_label},
          {"rows", head.rows},
          {"agreements", head.agreements},
          {"correct", head.correct},
          {"hidden_raw", hidden.raw},
          {"hidden_relative", hidden.relative},
          {"hidden_rows", hidden.rows}};
}

LogWindow log_window_from_json(const json& from) {
  LogWindow window;
  window.steps = from.at("steps");
  window.sums.loss = from.at("loss");
  window.sums.tokens = from.at("tokens");
  kernels::DistillationTerms& head = window.sums.head;
  head.kl = from.at("kl");
  head.kl_student_teacher = from.at("kl_student_teacher");
  head.kl_teacher_student = from.at("kl_teacher_student");
  head.jensen_shannon = from.at("jensen_shannon");
  head.hard_label = from.at("hard_label");
  head.true_label = from.at("true_label");
  head.rows = from.at("rows");
  head.agreements = from.at("agreements");
  head.correct = from.at("correct");
  window.sums.hidden.raw = from.at("hidden_raw");
  window.sums.hidden.relative = from.at("hidden_relative");
  window.sums.hidden.rows = from.at("hidden_rows");
  return window;
}

json mean_terms(const LossSums& sums, const LossSettings& settings) {
  const double tokens = double(std::max<int64_t>(1, sums.tokens));
  json terms = {{"loss", sums.loss / tokens},
                {"true_label", sums.head.true_label / tokens},
                {"accuracy", double(sums.head.correct) / tokens}};
  if (!settings.needs_teacher()) return terms;
  terms["kl_student_teacher"] = sums.head.kl_student_teacher / tokens;
  terms["kl_teacher_student"] = sums.head.kl_teacher_student / tokens;
  if (settings.head.kl != 0) terms["kl"] = sums.head.kl / tokens;
  terms["hard_label"] = sums.head.hard_label / tokens;
  terms["agreement"] = double(sums.head.agreements) / tokens;
  if (settings.hidden_weight != 0) {
    terms["hidden_mse"] = sums.hidden.raw / tokens;
    terms["hidden_relative"] = sums.hidden.relative / tokens;
  }
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
  static constexpr const char* kOrder[] = {"stage",
                                           "model",
                                           "reason",
                                           "loss",
                                           "true_label",
                                           "kl",
                                           "kl_student_teacher",
                                           "kl_teacher_student",
                                           "hard_label",
                                           "hidden_mse",
                                           "hidden_relative",
                                           "agreement",
                                           "accuracy",
                                           "learning_rate",
                                           "grad_norm",
                                           "tokens",
                                           "tokens_per_second",
                                           "data_wait_share",
                                           "peak_memory_bytes",
                                           "eta_seconds"};
  for (const std::string key : kOrder) {
    if (!line.contains(key)) continue;
    const json& value = line[key];
    if (key == "eta_seconds")
      text += "  eta " + (value.is_number() ? duration_text(value.get<double>()) : "-");
    else if (key == "peak_memory_bytes")
      text += fmt::format("  peak {:.0f} MiB", value.get<double>() / (1 << 20));
    else if (key == "data_wait_share")
      text += fmt::format("  data wait {:.0f} %", 100 * value.get<double>());
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
