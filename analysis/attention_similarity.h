#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "analysis/analysis_file.h"
#include "nn/language_model.h"

namespace echo {

// The similarities of a model's layers for one text, by SimilarityVariant, L x L each (formulas:
// kernels/attention/similarity.h). A layer that shares its leader's matrix has the similarities of its leader, and 1 with the
// leader.
//   ids: the text, at least 2 tokens. Only queries, keys and log-sum-exps of the layers are kept from the forward pass: O(L T
//   D).
// Throws Error (numerical) when a similarity is not finite, which means that the model's weights are damaged.
std::array<SquareMatrix, 4> attention_similarity(const LanguageModel& model, std::span<const int32_t> ids, DType compute_dtype);

}  // namespace echo
