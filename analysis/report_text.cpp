#include <fmt/format.h>

#include <algorithm>

#include "analysis/report.h"
#include "base/error.h"
#include "base/file.h"
#include "report/numbers.h"

namespace echo {
namespace {

// Columns as wide as their widest cell. The first and last columns are text, those between are numbers.
std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  for (const auto& row : rows) {
    text += "  ";
    for (size_t i = 0; i < row.size(); ++i) {
      if (i == 0)
        text += fmt::format("{:<{}}", row[i], widths[i]);
      else if (i + 1 < row.size())
        text += fmt::format("  {:>{}}", row[i], widths[i]);
      else
        text += "  " + row[i];
    }
    text += '\n';
  }
  return text;
}

std::string rounded(const std::optional<double>& value) { return value ? fmt::format("{:.3f}", *value) : "-"; }

}  // namespace

std::string evidence(const Analysis& analysis) {
  std::string text = analysis.samples
                         ? fmt::format("{} sample{}", grouped(*analysis.samples), *analysis.samples == 1 ? "" : "s")
                         : "number of samples not recorded";
  if (analysis.tokens_per_sample) text += fmt::format(" of {} tokens", grouped(*analysis.tokens_per_sample));
  const auto& error = analysis[SimilarityVariant::flat]->standard_error;
  if (!error) return text + (analysis.samples == 1 ? "; one sample has no standard error" : "; standard errors not recorded");
  std::vector<double> entries;
  for (int64_t i = 0; i < error->size(); ++i)
    for (int64_t j = 0; j < i; ++j) entries.push_back((*error)(i, j));
  std::sort(entries.begin(), entries.end());
  return text + fmt::format("; standard error of an entry: median {:.2g}, at most {:.2g}", entries[entries.size() / 2],
                            entries.back());
}

std::string analysis_summary(const Analysis& analysis) {
  const LayerRanking& ranking = analysis.ranking;
  std::string text = fmt::format("{}: {} layers, {}\n\n", analysis.model, analysis.layers(), evidence(analysis));
  text += fmt::format("ranking      {}\n", fmt::join(ranking.ranking, " "));
  text += fmt::format("largest gap  {:.4f}\n", ranking.largest_gap);
  text += fmt::format("unchanged    {}", ranking.unchanged.empty() ? "none" : layer_ranges(ranking.unchanged));
  if (ranking.unchanged_gap < ranking.largest_gap && !ranking.unchanged.empty())
    text += fmt::format(" (by a gap of {:.4f}: the largest would leave inner layers or most layers)", ranking.unchanged_gap);
  if (ranking.unchanged.empty()) text += " (no gap leaves only a few first or last layers)";
  text += "\n\nplans\n";

  std::vector<std::vector<std::string>> rows = {
      {"name", "followers", "of layers", "parameters removed", "of model", "mean", "min", "leader map"}};
  for (const Plan& plan : analysis.plans) {
    std::string of_model = "-";
    if (plan.parameters_removed && analysis.parameters.value_or(0) > 0)
      of_model = fmt::format("{:.2f} %", 100.0 * double(*plan.parameters_removed) / double(*analysis.parameters));
    rows.push_back({plan.name, std::to_string(plan.followers),
                    fmt::format("{:.0f} %", 100.0 * double(plan.followers) / double(analysis.layers())),
                    plan.parameters_removed ? grouped(*plan.parameters_removed) : "-", of_model, rounded(plan.mean_similarity),
                    rounded(plan.min_similarity), plan.leader_map.describe()});
  }
  text += aligned(rows);
  text += "  mean, min: similarity of followers to their own leader; layers not named compute their own\n";
  for (const Plan& plan : analysis.plans)
    for (const std::string& warning : plan.warnings) text += fmt::format("warning: {}: {}\n", plan.name, warning);
  return text;
}

std::vector<fs::path> write_analysis(const Analysis& analysis, const fs::path& folder) {
  const std::vector<std::pair<const char*, std::string>> files = {{"analysis.json", analysis_to_json(analysis)},
                                                                  {"similarity.svg", similarity_svg(analysis)},
                                                                  {"report.html", report_html(analysis)}};
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder, error))
    fail(ExitCode::io, folder.string(), ": the output folder cannot be created", error ? ": " + error.message() : "");
  std::vector<fs::path> written;
  for (const auto& [name, content] : files) {
    written.push_back(folder / name);
    write_file_atomically(written.back(), content);
  }
  return written;
}

}  // namespace echo
