#include "evaluation/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "report/numbers.h"
#include "report/svg.h"

namespace echo {

std::string comparison_table(const std::vector<ComparedModel>& models) {
  size_t width = 5;
  for (const ComparedModel& model : models) width = std::max(width, model.name.size());
  std::string text = fmt::format("{:<{}}  {:>13}  {:>13}  {:>13}  {:>9}  {:>8}  {:>8}\n", "model", width, "parameters",
                                 "held-out loss", "KL to teacher", "agreement", "accuracy", "tokens/s");
  for (const auto& [name, parameters, result] : models)
    text += fmt::format("{:<{}}  {:>13}  {:>13.4f}  {:>13.4f}  {:>7.1f} %  {:>6.1f} %  {:>8}\n", name, width,
                        grouped(parameters), result.loss, result.kl_teacher_student, 100 * result.agreement,
                        100 * result.accuracy, grouped(int64_t(result.tokens_per_second)));
  return text;
}

std::string comparison_svg(const std::vector<ComparedModel>& models, const std::string& title) {
  SvgTable table{title, {"model", "parameters", "held-out loss", "KL to teacher", "same top token"}, {}};
  for (const auto& [name, parameters, result] : models)
    table.rows.push_back({name, grouped(parameters), fmt::format("{:.4f}", result.loss),
                          fmt::format("{:.4f}", result.kl_teacher_student), fmt::format("{:.1f} %", 100 * result.agreement)});
  return svg_table(table, SvgUse::standalone);
}

std::string comparison_json(const std::vector<ComparedModel>& models) {
  nlohmann::json rows = nlohmann::json::array();
  for (const auto& [name, parameters, result] : models)
    rows.push_back({{"model", name},
                    {"parameters", parameters},
                    {"loss", result.loss},
                    {"kl_teacher_student", result.kl_teacher_student},
                    {"agreement", result.agreement},
                    {"accuracy", result.accuracy},
                    {"tokens", result.tokens},
                    {"tokens_per_second", result.tokens_per_second}});
  return rows.dump(1) + "\n";
}

}  // namespace echo
