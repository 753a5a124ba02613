#include "analysis/analyze_model.h"

#include "analysis/attention_similarity.h"
#include "analysis/similarity_statistics.h"
#include "data/analysis_samples.h"
#include "nn/model_io.h"
#include "tokenizer/tokenizer.h"

namespace echo {
namespace {

// Weights stay in their stored size, because the forward pass casts them one at a time. There is no dtype for half precision,
// so it becomes f32.
DType stored_dtype(const CheckpointReader& checkpoint) {
  return native_dtype(checkpoint.info(std::string(kEmbeddingWeight)).type) == DType::bf16 ? DType::bf16 : DType::f32;
}

}  // namespace

Analysis analyze_model(const AnalyzeOptions& options, const AnalyzeProgress& progress) {
  const CheckpointReader checkpoint(options.model);
  const LlamaConfig& config = checkpoint.config();
  if (options.sequence_length < 2 || options.sequence_length > config.max_position_embeddings)
    fail(ExitCode::usage, "sequence length ", options.sequence_length, ": the model reads texts of 2 to ",
         config.max_position_embeddings, " tokens");
  const Tokenizer tokenizer(options.model / "tokenizer.model");
  if (tokenizer.vocabulary_size() != config.vocab_size)
    fail(ExitCode::bad_data, options.model.string(), ": tokenizer.model has ", tokenizer.vocabulary_size(),
         " pieces, but config.json says vocab_size ", config.vocab_size, "; use the tokenizer that the model was trained with");
  const auto rows = analysis_samples(options.data, tokenizer, options.samples, options.sequence_length, options.remote.get());
  const auto model = load_model(checkpoint, {stored_dtype(checkpoint), /*requires_gradient=*/false, options.device});

  std::vector<SimilarityStatistics> statistics(kSimilarityVariants.size(), SimilarityStatistics(config.num_hidden_layers));
  if (progress) progress(0, int64_t(rows.size()));
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto sample = attention_similarity(*model, rows[i], DType::f32);
    for (size_t variant = 0; variant < sample.size(); ++variant) statistics[variant].add(sample[variant]);
    if (progress) progress(int64_t(i) + 1, int64_t(rows.size()));
  }

  Analysis analysis;
  analysis.model = options.model.string();
  analysis.data = options.data.text();
  analysis.parameters = parameter_count(config, checkpoint.leader_map());
  analysis.attention =
      AttentionShape{config.hidden_size, config.num_attention_heads, config.num_key_value_heads, config.head_dim};
  analysis.parameters_per_follower = parameters_per_follower(*analysis.attention);
  analysis.samples = int64_t(rows.size());
  analysis.tokens_per_sample = options.sequence_length;
  for (const SimilarityVariant variant : kSimilarityVariants)
    analysis[variant] = SimilarityEstimate{statistics[size_t(variant)].mean(), statistics[size_t(variant)].standard_error()};
  return analysis;
}

}  // namespace echo
