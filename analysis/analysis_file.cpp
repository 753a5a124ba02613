#include "analysis/analysis_file.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/strict_json.h"

namespace echo {
namespace {

using Json = nlohmann::json;

// Two-decimal values that were rounded differently differ by 0.01, plus a little for the binary representation.
constexpr double kRounding = 0.01 + 1e-9;

void require_finite(const Analysis& analysis) {
  for (const SimilarityVariant variant : kSimilarityVariants) {
    if (!analysis[variant]) continue;
    const auto require = [&](const SquareMatrix& matrix, const char* what) {
      for (int64_t i = 0; i < matrix.size(); ++i)
        for (int64_t j = 0; j < matrix.size(); ++j)
          if (!std::isfinite(matrix(i, j)))
            fail(ExitCode::numerical, "similarity (", variant_name(variant), ", ", what, ") of layers ", i, " and ", j,
                 " is not a finite number; the model's weights or activations are not finite");
    };
    require(analysis[variant]->mean, "mean");
    if (analysis[variant]->standard_error) require(*analysis[variant]->standard_error, "standard error");
  }
}

template <class Value>
Json or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// File names may contain any bytes. Bytes that are not UTF-8 are replaced, because JSON cannot contain them.
std::string text_of(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

// One row per line.
std::string text_of(const std::optional<SquareMatrix>& matrix, const std::string& indent) {
  if (!matrix) return "null";
  std::string text = "[";
  for (int64_t i = 0; i < matrix->size(); ++i) {
    const auto row = matrix->values().begin() + i * matrix->size();
    text.append(i == 0 ? "\n" : ",\n").append(indent).append(text_of(Json(std::vector<double>(row, row + matrix->size()))));
  }
  return text + "]";
}

Json to_json(const Plan& plan) {
  return {{"name", plan.name},
          {"leader_map", plan.leader_map.to_json()},
          {"followers", plan.followers},
          {"parameters_removed", or_null(plan.parameters_removed)},
          {"mean_similarity", or_null(plan.mean_similarity)},
          {"min_similarity", or_null(plan.min_similarity)},
          {"warnings", plan.warnings}};
}

// Reads one file. Every message begins with the file and the position in it.
class AnalysisReader {
 public:
  explicit AnalysisReader(const std::string& source) : source_(source) {}

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ExitCode::bad_data, source_, ": ", parts...);
  }

  SquareMatrix matrix(const Json& rows, const std::string& where) const {
    if (!rows.is_array()) refuse(where, " is not a matrix; a list of L lists of L numbers is expected");
    const int64_t layers = int64_t(rows.size());
    if (layers < 2 || layers > kMostLayers)
      refuse(where, " has ", layers, " rows; a model of 2 to ", kMostLayers, " layers is expected");
    SquareMatrix result(layers);
    for (int64_t i = 0; i < layers; ++i) {
      const Json& row = rows[size_t(i)];
      if (!row.is_array() || int64_t(row.size()) != layers)
        refuse(where, " is not square: row ", i, " has ", row.is_array() ? std::to_string(row.size()) + " values" : "no list",
               ", ", layers, " values are expected");
      for (int64_t j = 0; j < layers; ++j) {
        const Json& value = row[size_t(j)];
        if (!value.is_number()) refuse(where, ", row ", i, ", column ", j, ": is not a number");
        result(i, j) = value.get<double>();
        if (!std::isfinite(result(i, j))) refuse(where, ", row ", i, ", column ", j, ": is not a finite number");
      }
    }
    return result;
  }

  SquareMatrix similarity(const Json& rows, const std::string& where) const {
    SquareMatrix result = matrix(rows, where);
    for (int64_t i = 0; i < result.size(); ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        const double a = result(i, j), b = result(j, i);
        for (const double value : {a, b})
          if (std::abs(value) > 1.0 + kRounding)
            refuse(where, ": layers ", i, " and ", j, " have the similarity ", value, "; a cosine lies between -1 and 1");
        if (std::abs(a - b) > kRounding) refuse(where, " is not symmetric: layers ", i, " and ", j, " have ", a, " and ", b);
        if (i == j && std::abs(a - 1.0) > kRounding)
          refuse(where, ": layer ", i, " has the similarity ", a, " to itself; the diagonal must be 1");
        result(i, j) = result(j, i) = std::clamp(0.5 * (a + b), -1.0, 1.0);
      }
    }
    return result;
  }

  SquareMatrix standard_error(const Json& rows, const std::string& where) const {
    SquareMatrix result = matrix(rows, where);
    for (const double value : result.values())
      if (value < 0.0) refuse(where, " has the negative value ", value);
    return result;
  }

  std::optional<int64_t> count(const Json& object, const char* key) const {
    const auto at = object.find(key);
    if (at == object.end() || at->is_null()) return std::nullopt;
    const bool fits = at->is_number_integer() && !(at->is_number_unsigned() && at->get<uint64_t>() > INT64_MAX);
    if (!fits || at->get<int64_t>() < 0) refuse(key, " is not a count; a whole number from 0 up is expected");
    return at->get<int64_t>();
  }

  std::string text(const Json& object, const char* key) const {
    const auto at = object.find(key);
    if (at == object.end() || at->is_null()) return "";
    if (!at->is_string()) refuse(key, " is not a text");
    return at->get<std::string>();
  }

  std::vector<std::string> texts(const Json& object, const char* key) const {
    std::vector<std::string> result;
    const auto at = object.find(key);
    if (at == object.end() || at->is_null()) return result;
    if (!at->is_array()) refuse(key, " is not a list of texts");
    for (const Json& entry : *at) {
      if (!entry.is_string()) refuse(key, " is not a list of texts");
      result.push_back(entry.get<std::string>());
    }
    return result;
  }

  // {"flat": {"mean": .., "standard_error": ..}, ..}
  void estimates(Analysis& analysis, const Json& variants) const {
    for (const SimilarityVariant variant : kSimilarityVariants) {
      const std::string name(variant_name(variant)), where = "similarity." + name;
      const auto at = variants.find(name);
      if (at == variants.end() || at->is_null()) continue;
      if (!at->is_object() || !at->contains("mean")) refuse(where, " has no mean");
      SimilarityEstimate estimate{similarity((*at)["mean"], where + ".mean"), std::nullopt};
      if (const auto error = at->find("standard_error"); error != at->end() && !error->is_null()) {
        estimate.standard_error = standard_error(*error, where + ".standard_error");
        if (estimate.standard_error->size() != estimate.mean.size())
          refuse(where, ": mean and standard_error have different sizes");
      }
      analysis[variant] = std::move(estimate);
    }
    if (!analysis[SimilarityVariant::flat]) refuse("similarity.flat is missing");
    for (const SimilarityVariant variant : kSimilarityVariants)
      if (analysis[variant] && analysis[variant]->mean.size() != analysis.layers())
        refuse("similarity.", variant_name(variant), " has ", analysis[variant]->mean.size(), " layers, similarity.flat ",
               analysis.layers());
  }

  void attention(Analysis& analysis, const Json& object) const {
    const auto at = object.find("attention");
    if (at == object.end() || at->is_null()) return;
    if (!at->is_object()) refuse("attention is not an object");
    AttentionShape shape;
    const auto size = [&](const char* key) {
      const std::optional<int64_t> value = count(*at, key);
      if (!value || *value < 1 || *value > (int64_t{1} << 24)) refuse("attention.", key, " is missing or out of range");
      return *value;
    };
    shape = {size("hidden"), size("heads"), size("kv_heads"), size("head_dim")};
    analysis.attention = shape;
  }

  void plans(Analysis& analysis, const Json& list) const {
    if (!list.is_array()) refuse("plans is not a list");
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string where = "plans[" + std::to_string(i) + "]";
      if (!list[i].is_object() || !list[i].contains("leader_map")) refuse(where, " has no leader_map");
      try {
        LeaderMap map = LeaderMap::from_json(list[i]["leader_map"], where + ".leader_map");
        analysis.plans.push_back(
            evaluate_plan(text(list[i], "name"), std::move(map), analysis.flat(), analysis.parameters_per_follower));
      } catch (const Error& error) {
        if (error.code() != ExitCode::config) throw;
        refuse(where, ": ", error.what());
      }
      // The stored warnings say more than the matrix does, for example which layers are no longer kept unchanged.
      if (list[i].contains("warnings")) analysis.plans.back().warnings = texts(list[i], "warnings");
    }
  }

 private:
  const std::string& source_;
};

}  // namespace

std::string_view variant_name(SimilarityVariant variant) {
  constexpr std::array<std::string_view, 4> kNames = {"flat", "per_head", "per_row", "no_first_column"};
  return kNames[size_t(variant)];
}

void make_plans(Analysis& analysis) {
  require_finite(analysis);
  analysis.ranking = rank_layers(analysis.flat());
  analysis.plans = propose_plans(analysis.flat(), analysis.parameters_per_follower);
}

std::string analysis_to_json(const Analysis& analysis) {
  require_finite(analysis);
  std::string text = "{\n\"version\": 1";
  const auto add = [&](const char* key, const std::string& value) {
    text.append(",\n\"").append(key).append("\": ").append(value);
  };
  add("model", text_of(Json(analysis.model)));
  add("data", analysis.data.empty() ? "null" : text_of(Json(analysis.data)));
  add("command", text_of(Json(analysis.command)));
  add("parameters", text_of(or_null(analysis.parameters)));
  add("parameters_per_follower", text_of(or_null(analysis.parameters_per_follower)));
  Json attention;
  if (const auto& shape = analysis.attention)
    attention = {
        {"hidden", shape->hidden}, {"heads", shape->heads}, {"kv_heads", shape->kv_heads}, {"head_dim", shape->head_dim}};
  add("attention", text_of(attention));
  add("samples", text_of(or_null(analysis.samples)));
  add("tokens_per_sample", text_of(or_null(analysis.tokens_per_sample)));
  std::string variants = "{";
  for (const SimilarityVariant variant : kSimilarityVariants) {
    const auto& estimate = analysis[variant];
    variants.append(variants.size() == 1 ? "\n \"" : ",\n \"").append(variant_name(variant)).append("\": ");
    if (!estimate)
      variants += "null";
    else
      variants.append("{\n  \"mean\": ")
          .append(text_of(estimate->mean, "   "))
          .append(",\n  \"standard_error\": ")
          .append(text_of(estimate->standard_error, "   "))
          .append("}");
  }
  add("similarity", variants + "}");
  add("layer_mean", text_of(Json(analysis.ranking.layer_mean)));
  add("ranking", text_of(Json(analysis.ranking.ranking)));
  add("largest_gap", text_of(Json(analysis.ranking.largest_gap)));
  add("unchanged_gap", text_of(Json(analysis.ranking.unchanged_gap)));
  add("unchanged", text_of(Json(analysis.ranking.unchanged)));
  std::string plans = "[";
  for (const Plan& plan : analysis.plans) plans.append(plans.size() == 1 ? "\n " : ",\n ").append(text_of(to_json(plan)));
  add("plans", plans + "]");
  return text + "\n}\n";
}

Analysis analysis_from_json(std::string_view text, const std::string& source) {
  const AnalysisReader reader(source);
  const Json json = parse_strict_json(text, source);
  Analysis analysis;
  analysis.model = source;
  if (json.is_array()) {
    analysis[SimilarityVariant::flat] = SimilarityEstimate{reader.similarity(json, "the matrix"), std::nullopt};
    make_plans(analysis);
    return analysis;
  }
  if (!json.is_object()) reader.refuse("has no similarity matrix");

  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items())
    if (key.starts_with("similarity")) keys.push_back(key);
  if (keys.empty()) reader.refuse("has no key that begins with \"similarity\"; its value should be a matrix");
  if (keys.size() > 1 && !json.contains("similarity"))
    reader.refuse("has several keys that begin with \"similarity\" (", keys[0], ", ", keys[1],
                  "); call the one to use \"similarity\"");
  const std::string key = json.contains("similarity") ? "similarity" : keys[0];
  analysis.samples = reader.count(json, "samples");
  analysis.tokens_per_sample = reader.count(json, "tokens_per_sample");
  if (json.at(key).is_object())
    reader.estimates(analysis, json.at(key));
  else
    analysis[SimilarityVariant::flat] = SimilarityEstimate{reader.similarity(json.at(key), key), std::nullopt};

  if (json.contains("version")) {  // a file from this program
    if (const std::string model = reader.text(json, "model"); !model.empty()) analysis.model = model;
    analysis.data = reader.text(json, "data");
    analysis.command = reader.texts(json, "command");
    analysis.parameters = reader.count(json, "parameters");
    analysis.parameters_per_follower = reader.count(json, "parameters_per_follower");
    reader.attention(analysis, json);
  } else if (const auto at = json.find("parameters"); at != json.end() && at->is_object()) {
    analysis.parameters_per_follower = reader.count(*at, "per_follower");
  }
  if (analysis.parameters_per_follower.value_or(0) > (int64_t{1} << 48))
    reader.refuse("parameters_per_follower is out of range");
  if (json.contains("plans")) {
    analysis.ranking = rank_layers(analysis.flat());
    reader.plans(analysis, json.at("plans"));
  } else {
    make_plans(analysis);
  }
  return analysis;
}

Analysis read_analysis(const fs::path& path) { return analysis_from_json(read_file(path), path.string()); }

}  // namespace echo
