#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "evaluation/evaluation.h"
#include "training/distillation.h"

namespace echo {

// trainer_log.jsonl: one JSON object per line, appended at once.
//   {"event": "train", "step", "stage", "loss", terms..., "learning_rate", "grad_norm", "tokens_per_second", ...}
//   {"event": "evaluation", "step", "stage", "model", "loss", "kl_teacher_student", "agreement", ...}
//   {"event": "skipped", "step", "stage", "reason", "cursor"}
//   {"event": "skipped_file", "step", "stage", "file"}
class TrainingLog {
 public:
  // Opens the log of a run that is at `step`. Lines of later steps (from a run that was killed after its last checkpoint) are
  // dropped, and so is an incomplete last line. Throws Error (io).
  TrainingLog(const std::filesystem::path& path, int64_t step);
  void write(const nlohmann::json& line);

  // Every complete line. Throws Error (input_missing). Lines that are not JSON are skipped.
  static std::vector<nlohmann::json> read(const std::filesystem::path& path);

 private:
  FileWriter file_;
};

// Sums over the steps since the last line of the log.
struct LogWindow {
  LossSums sums;
  int64_t steps = 0;
};
nlohmann::json to_json(const LogWindow& window);  // with all digits, so that a resumed run logs the same numbers
LogWindow log_window_from_json(const nlohmann::json& json);

// Every term as a mean over tokens, under its name in the log. Terms that were not computed are omitted.
nlohmann::json mean_terms(const LossSums& sums, const LossSettings& settings);
nlohmann::json to_json(const EvaluationResult& result, bool with_teacher);

// The same fields as one line for the console: "step 20/300 stage 1 loss 1.2345 ...".
std::string console_line(const nlohmann::json& line, int64_t total_steps);

}  // namespace echo
