#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/layer_ranking.h"
#include "analysis/plan_budget.h"
#include "analysis/planner.h"
#include "analysis/square_matrix.h"

namespace echo {

// The part of the attention matrices over which the cosine of two layers is taken, per sample:
//   flat             all heads and rows as one vector
//   per_head         head by head, then averaged
//   per_row          row by row of every head, then averaged
//   no_first_column  as flat, but without the column of the first token, which gets most of the mass of attention sinks
enum class SimilarityVariant { flat, per_head, per_row, no_first_column };
inline constexpr std::array<SimilarityVariant, 4> kSimilarityVariants = {
    SimilarityVariant::flat, SimilarityVariant::per_head, SimilarityVariant::per_row, SimilarityVariant::no_first_column};
std::string_view variant_name(SimilarityVariant variant);  // the key in analysis.json

// L x L matrices, computed over the samples.
struct SimilarityEstimate {
  SquareMatrix mean;
  std::optional<SquareMatrix> standard_error;  // empty: only one sample, or not recorded
  bool operator==(const SimilarityEstimate&) const = default;
};

// All that is known about the similarity of a model's layers, and the plans based on it. The content of analysis.json.
struct Analysis {
  std::string model;                               // the teacher's name as given by the user, or the file of the matrix
  std::string data;                                // the source of the samples; empty when not recorded
  std::vector<std::string> command;                // the program's arguments, for the record
  std::optional<int64_t> parameters;               // of the whole model
  std::optional<int64_t> parameters_per_follower;  // parameters that a follower does not have
  std::optional<AttentionShape> attention;
  std::optional<int64_t> samples, tokens_per_sample;            // empty when not recorded
  std::array<std::optional<SimilarityEstimate>, 4> similarity;  // by variant; flat is always present

  // Computed by make_plans() from the flat similarity.
  LayerRanking ranking;
  std::vector<Plan> plans;

  std::optional<SimilarityEstimate>& operator[](SimilarityVariant variant) { return similarity[size_t(variant)]; }
  const std::optional<SimilarityEstimate>& operator[](SimilarityVariant variant) const { return similarity[size_t(variant)]; }
  const SquareMatrix& flat() const { return similarity[size_t(SimilarityVariant::flat)].value().mean; }
  int64_t layers() const { return flat().size(); }
  bool operator==(const Analysis&) const = default;
};

// Fills ranking and plans (propose_plans in planner.h). Throws Error (numerical) when a similarity is not finite.
void make_plans(Analysis& analysis);

// Models with more layers are an error, because pictures and files grow with the square of this number.
inline constexpr int64_t kMostLayers = 256;

// The text of analysis.json, with these keys (unknown values are null, never NaN):
//   samples, tokens_per_sample
//   similarity.{flat,per_head,per_row,no_first_column}.{mean,standard_error}   L rows of L numbers
//   layer_mean, ranking, largest_gap, unchanged                                  layer_ranking.h
//   plans: [{name, leader_map, followers, parameters_removed, mean_similarity, min_similarity, warnings}]
//   beside these: version, model, data, command, parameters, parameters_per_follower, attention, unchanged_gap
// Throws Error (numerical) when a similarity is not finite.
std::string analysis_to_json(const Analysis& analysis);

// Reads the text of a file. It is analysis.json, or a stored matrix of similarities: as the whole content of the file, under
// the key "similarity", or under the only key that begins with "similarity" (then "parameters"."per_follower" is read too).
// Ranking and figures of plans are computed again from the matrix, so that they cannot contradict it. A file without plans gets
// the proposed ones.
// A matrix must be square, for 2 to 256 layers, finite, in [-1, 1], symmetric and with diagonal 1, all within 0.01 to allow for
// rounding to two decimals. Values are then clamped to [-1, 1], and the two halves are averaged.
// Throws Error (bad_data) with `source` and the reason.
Analysis analysis_from_json(std::string_view text, const std::string& source);

// Reads a file. Also throws input_missing and io.
Analysis read_analysis(const std::filesystem::path& path);

}  // namespace echo
