#include "training/plan_setup.h"

#include "analysis/analyze_model.h"
#include "base/error.h"

namespace echo {
namespace {

using settings::PlanMethod;

Analysis similarity_for(const settings::Plan& plan, const ResolvedInputs& inputs,
                        const std::function<void(int64_t, int64_t)>& progress, Device device) {
  if (inputs.analysis) return read_analysis(*inputs.analysis);
  if (!inputs.start)
    fail(ExitCode::config, "student.plan.method: ", settings::name_of(plan.method),
         " needs a trained model to analyse; give student.plan.analysis, student.leader_map, or the method uniform or list");
  return analyze_model({.model = *inputs.start,
                        .data = inputs.data.all,
                        .remote = inputs.data.paths.remote,
                        .samples = plan.analysis_samples,
                        .sequence_length = plan.analysis_sequence_length,
                        .device = device},
                       progress);
}

SimilarityVariant variant_of(settings::SimilarityVariant variant) {
  switch (variant) {
    case settings::SimilarityVariant::flat:
      return SimilarityVariant::flat;
    case settings::SimilarityVariant::per_head:
      return SimilarityVariant::per_head;
    case settings::SimilarityVariant::per_row:
      return SimilarityVariant::per_row;
    case settings::SimilarityVariant::no_first_column:
      return SimilarityVariant::no_first_column;
  }
  return SimilarityVariant::flat;
}

const SquareMatrix& chosen_variant(const Analysis& analysis, settings::SimilarityVariant variant) {
  const auto& estimate = analysis[variant_of(variant)];
  if (!estimate)
    fail(ExitCode::config, "student.plan.variant: the analysis has no ", settings::name_of(variant), " similarity");
  return estimate->mean;
}

Budget budget_of(const settings::Plan& plan, const TrainConfig& train) {
  Budget budget;
  budget.tokens = train.data.sequence_length;
  budget.amount = double(plan.followers);
  if (plan.followers > 0) return budget;
  if (plan.budget_parameters > 0) {
    budget.unit = Budget::Unit::parameters;
    budget.amount = double(plan.budget_parameters);
  } else if (plan.budget_flops > 0) {
    budget.unit = Budget::Unit::flops;
    budget.amount = double(plan.budget_flops);
  } else if (plan.budget_cache_bytes > 0) {
    budget.unit = Budget::Unit::cache_bytes;
    budget.amount = double(plan.budget_cache_bytes);
  }
  return budget;
}

}  // namespace

PlannedMap plan_leader_map(const TrainConfig& train, const ResolvedInputs& inputs, const LlamaConfig& model,
                           const LeaderMap& stored, const std::function<void(int64_t, int64_t)>& progress, Device device) {
  const int64_t layers = model.num_hidden_layers;
  if (!train.student.leader_map.empty()) {
    LeaderMap map(train.student.leader_map, "student.leader_map");
    if (map.layers() != layers)
      fail(ExitCode::config, "student.leader_map: ", map.layers(), " entries, but the model has ", layers,
           " layers; give one entry per layer");
    return {map, {}};
  }
  const settings::Plan& plan = train.student.plan;
  const ListMode mode = plan.method == PlanMethod::paper_lending ? ListMode::lend : ListMode::follow;
  switch (plan.method) {
    case PlanMethod::none:
      return {stored, {}};
    case PlanMethod::uniform:
      return {LeaderMap::uniform(layers, plan.first_shared, plan.blocks, plan.block_size), {}};
    case PlanMethod::list:
      return {LeaderMap::from_list(layers, plan.layers, mode), {}};
    default:
      break;
  }
  if (plan.method != PlanMethod::optimal && !plan.layers.empty()) return {LeaderMap::from_list(layers, plan.layers, mode), {}};

  const Analysis analysis = similarity_for(plan, inputs, progress, device);
  const SquareMatrix& similarity = chosen_variant(analysis, plan.variant);
  if (similarity.size() != layers)
    fail(ExitCode::config, "student.plan.analysis: ", similarity.size(), " layers, but the model has ", layers);
  const LayerRanking ranking = rank_layers(similarity);
  const AttentionShape shape{model.hidden_size, model.num_attention_heads, model.num_key_value_heads, model.head_dim};
  const int64_t followers = followers_for(budget_of(plan, train), layers, shape);
  const Plan made =
      plan.method == PlanMethod::optimal
          ? optimal_plan("optimal", link_cost(similarity), followers, ranking, similarity, parameters_per_follower(shape))
          : evaluate_plan(std::string(settings::name_of(plan.method)),
                          LeaderMap::from_ranking(ranking.ranking, followers, mode), similarity,
                          parameters_per_follower(shape));
  PlannedMap result{made.leader_map, {}};
  if (made.mean_similarity)
    result.remarks.push_back(
        concat("similarity of followers to their leaders: mean ", *made.mean_similarity, ", lowest ", *made.min_similarity));
  for (const std::string& warning : made.warnings) result.remarks.push_back("warning: " + warning);
  return result;
}

}  // namespace echo
