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

// Over what the cosine of two layers' attention matrices is taken, per sample:
//   flat             all heads and rows as one vector
//   per_head         head by head, then averaged
//   per_row          row by row of every head, then averaged
//   no_first_column  as flat, without the first token's column, on which attention sinks put most of the mass
enum class SimilarityVariant { flat, per_head, per_row, no_first_column };
inline constexpr std::array<SimilarityVariant, 4> kSimilarityVariants = {
    SimilarityVariant::flat, SimilarityVariant::per_head, SimilarityVariant::per_row, SimilarityVariant::no_first_column};
std::string_view variant_name(SimilarityVariant variant);  // the key in analysis.json

// L x L, over the samples.
struct SimilarityEstimate {
  SquareMatrix mean;
  std::optional<SquareMatrix> standard_error;  // empty: one sample, or not recorded
  bool operator==(const SimilarityEstimate&) const = default;
};

// All that is known about how alike a model's layers are, and what follows from it. The content of analysis.json.
struct Analysis {
  std::string model;                               // the teacher as the user named it, or the file that the matrix came from
  std::string data;                                // where the samples came from; empty when not recorded
  std::vector<std::string> command;                // the program's arguments, for the record
  std::optional<int64_t> parameters;               // of the whole model
  std::optional<int64_t> parameters_per_follower;  // that a follower does without
  std::optional<AttentionShape> attention;
  std::optional<int64_t> samples, tokens_per_sample;            // empty when not recorded
  std::array<std::optional<SimilarityEstimate>, 4> similarity;  // by variant; flat is always there

  // What make_plans() derives from the flat similarity.
  LayerRanking ranking;
  std::vector<Plan> plans;

  std::optional<SimilarityEstimate>& operator[](SimilarityVariant variant) { return similarity[size_t(variant)]; }
  const std::optional<SimilarityEstimate>& operator[](SimilarityVariant variant) const { return similarity[size_t(variant)]; }
  const SquareMatrix& flat() const { return similarity[size_t(SimilarityVariant::flat)].value().mean; }
  int64_t layers() const { return flat().size(); }
  bool operator==(const Analysis&) const = default;
};

// Fills ranking and plans (planner.h's propose_plans). Throws Error (numerical) when a similarity is not finite.
void make_plans(Analysis& analysis);

// Models of more layers than this are refused: pictures and files grow with the square.
inline constexpr int64_t kMostLayers = 256;

// The text of analysis.json; its keys (what is not known is null, never NaN):
//   samples, tokens_per_sample
//   similarity.{flat,per_head,per_row,no_first_column}.{mean,standard_error}   L rows of L numbers
//   layer_mean, ranking, largest_gap, unchanged                                  layer_ranking.h
//   plans: [{name, leader_map, followers, parameters_removed, mean_similarity, min_similarity, warnings}]
//   beside these: version, model, data, command, parameters, parameters_per_follower, attention, unchanged_gap
// Throws Error (numerical) when a similarity is not finite.
std::string analysis_to_json(const Analysis& analysis);

// From the text of a file: analysis.json; or a stored matrix of similarities, as the file's whole content, under the key
// "similarity", or under the one key that begins with "similarity" (then "parameters"."per_follower" is read as well).
// Ranking and figures of plans are computed anew from the matrix, so that nothing can contradict it; a file without plans
// gets the proposed ones.
// A matrix must be square, 2 to 256 layers, finite, in [-1, 1], with diagonal 1 and symmetric: each up to 0.01 for rounding
// to two decimals; values are then cut to [-1, 1] and the two halves averaged.
// Throws Error (bad_data) naming `source` and what is wrong.
Analysis analysis_from_json(std::string_view text, const std::string& source);

// From a file; throws also input_missing and io.
Analysis read_analysis(const std::filesystem::path& path);

}  // namespace echo
