#include "analysis/attention_similarity.h"

#include <cmath>
#include <vector>

#include "autograd/no_grad.h"
#include "kernels/attention/similarity.h"

namespace echo {
namespace {

// Expands the table of the layers with their own matrix, in order, to one of all layers.
SquareMatrix of_all_layers(const Tensor& table, const LeaderMap& map, const std::vector<int64_t>& position) {
  const double* values = table.data<double>();
  SquareMatrix result(map.layers());
  for (int64_t i = 0; i < map.layers(); ++i)
    for (int64_t j = 0; j < map.layers(); ++j) {
      const double value = values[position[size_t(map.leader(i))] * table.dim(1) + position[size_t(map.leader(j))]];
      if (!std::isfinite(value))
        fail(ExitCode::numerical, "the attention of layers ", i, " and ", j,
             " is not finite: the model's weights may be damaged");
      result(i, j) = value;
    }
  return result;
}

}  // namespace

std::array<SquareMatrix, 4> attention_similarity(const LanguageModel& model, std::span<const int32_t> ids,
                                                 DType compute_dtype) {
  ECHO_CHECK(ids.size() >= 2, "attention similarity: a text of ", ids.size(), " tokens, expected at least 2");
  const NoGrad no_grad;
  const LeaderMap& map = model.leader_map();
  std::vector<kernels::AttentionMatrix> matrices;
  std::vector<int64_t> position(size_t(map.layers()), -1);
  double scale = 0;
  ForwardOptions options;
  options.compute_dtype = compute_dtype;
  options.on_attention = [&](int64_t layer, const SharedProbabilities& probabilities) {
    position[size_t(layer)] = int64_t(matrices.size());
    matrices.push_back({probabilities.q.select(0, 0), probabilities.k.select(0, 0), probabilities.lse.select(0, 0)});
    scale = probabilities.scale;
  };
  model.forward(Tensor::from(std::vector<int32_t>(ids.begin(), ids.end()), {1, int64_t(ids.size())}), options);
  const kernels::AttentionSimilarity similarity = kernels::attention_similarity(matrices, scale);

  std::array<SquareMatrix, 4> result;
  result[size_t(SimilarityVariant::flat)] = of_all_layers(similarity.flat, map, position);
  result[size_t(SimilarityVariant::per_head)] = of_all_layers(similarity.per_head, map, position);
  result[size_t(SimilarityVariant::per_row)] = of_all_layers(similarity.per_row, map, position);
  result[size_t(SimilarityVariant::no_first_column)] = of_all_layers(similarity.no_first_column, map, position);
  return result;
}

}  // namespace echo
