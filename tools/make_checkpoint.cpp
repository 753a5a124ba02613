// Writes a Llama-shaped model folder with seeded random weights, for trials and measurements at sizes for which no real weights
// are available: matrices normal(0, initializer_range), norms 1. One tensor at a time is in memory.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <map>
#include <numbers>
#include <string>
#include <vector>

#include "base/program.h"
#include "base/random.h"
#include "base/thread_waiting.h"
#include "nn/checkpoint_writer.h"
#include "nn/model_description.h"

namespace {

using namespace echo;

struct Options {
  std::string shape, format = "safetensors", dtype = "f32", tokenizer, output;
  int64_t shards = 1;
  uint64_t seed = 1;
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, layers = 0, heads = 0, kv_heads = 0, max_positions = 0;
  bool tie = false;
  std::vector<int64_t> leader_map;
};

LlamaConfig preset(const std::string& shape) {
  LlamaConfig config;
  config.bos_token_id = 1;
  config.eos_token_id = {2};
  const auto sizes = [&](int64_t vocab, int64_t hidden, int64_t mlp, int64_t layers, int64_t heads, int64_t kv_heads,
                         int64_t positions, double eps) {
    config.vocab_size = vocab, config.hidden_size = hidden, config.intermediate_size = mlp, config.num_hidden_layers = layers;
    config.num_attention_heads = heads, config.num_key_value_heads = kv_heads, config.max_position_embeddings = positions;
    config.rms_norm_eps = eps;
  };
  if (shape == "tinyllama") sizes(32000, 2048, 5632, 22, 32, 4, 2048, 1e-5);
  if (shape == "llama160m") sizes(32000, 768, 3072, 12, 12, 12, 2048, 1e-6);
  if (shape == "stories") sizes(512, 128, 344, 12, 8, 4, 512, 1e-5);
  return config;
}

LlamaConfig config_of(const Options& options) {
  LlamaConfig config = preset(options.shape);
  const auto override_with = [](int64_t& value, int64_t given) {
    if (given != 0) value = given;
  };
  override_with(config.vocab_size, options.vocab_size);
  override_with(config.hidden_size, options.hidden_size);
  override_with(config.intermediate_size, options.intermediate_size);
  override_with(config.num_hidden_layers, options.layers);
  override_with(config.num_attention_heads, options.heads);
  override_with(config.num_key_value_heads,
                options.kv_heads != 0 || config.num_key_value_heads != 0 ? options.kv_heads : options.heads);
  override_with(config.max_position_embeddings, options.max_positions);
  config.tie_word_embeddings = options.tie;
  config.dtype = options.dtype == "bf16" ? DType::bf16 : DType::f32;
  if (config.num_attention_heads <= 0 || config.hidden_size % config.num_attention_heads != 0)
    fail(ExitCode::usage, "a hidden size of ", config.hidden_size, " cannot be divided among ", config.num_attention_heads,
         " heads; give --shape, or --vocab-size --hidden-size --intermediate-size --layers --heads");
  config.head_dim = config.hidden_size / config.num_attention_heads;
  validate(config, "the sizes given", ExitCode::usage);
  return config;
}

// Element i depends only on seed, tensor and i. Each position of the counter gives two values (Box-Muller).
template <class T>
void fill_normal(Tensor& tensor, const Philox& random, float deviation) {
  T* data = tensor.data<T>();
  const int64_t count = tensor.elements();
#pragma omp parallel for
  for (int64_t pair = 0; pair < (count + 1) / 2; ++pair) {
    const auto words = random.words(uint64_t(pair));
    const float radius = deviation * std::sqrt(-2.0f * std::log((float(words[0] >> 8) + 0.5f) * 0x1p-24f));
    const float angle = 2.0f * std::numbers::pi_v<float> * (float(words[1] >> 8) * 0x1p-24f);
    data[2 * pair] = T(radius * std::cos(angle));
    if (2 * pair + 1 < count) data[2 * pair + 1] = T(radius * std::sin(angle));
  }
}

int make_checkpoint(const Options& options) {
  ModelDescription model{config_of(options), LeaderMap::own(1), std::nullopt};
  model.leader_map = options.leader_map.empty() ? LeaderMap::own(model.config.num_hidden_layers)
                                                : LeaderMap(options.leader_map, "--leader-map");
  if (model.leader_map.layers() != model.config.num_hidden_layers)
    fail(ExitCode::usage, "--leader-map has ", model.leader_map.layers(), " entries for ", model.config.num_hidden_layers,
         " layers");
  std::map<std::string, uint64_t> streams;  // one random stream per tensor
  for (const WeightShape& weight : weight_shapes(model.config, model.leader_map)) streams.emplace(weight.name, streams.size());
  SaveOptions save;
  save.format = options.format == "bin" ? WeightFormat::torch_archive : WeightFormat::safetensors;
  save.shards = options.shards;
  if (!options.tokenizer.empty()) save.tokenizer = options.tokenizer;
  save_model_folder(
      options.output, model,
      [&](const TensorDescription& description) {
        if (description.shape.rank() == 1) return Tensor::full(description.shape, 1.0, description.dtype);
        Tensor tensor = Tensor::empty(description.shape, description.dtype);
        const Philox random(options.seed, streams.at(description.name));
        dispatch_float(tensor.dtype(), [&]<class T>() {
          if constexpr (!std::is_same_v<T, double>) fill_normal<T>(tensor, random, float(model.config.initializer_range));
        });
        return tensor;
      },
      save);
  std::printf("%s: %lld parameters\n", options.output.c_str(),
              static_cast<long long>(parameter_count(model.config, model.leader_map)));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  shorten_thread_waiting(argv);
  CLI::App app("Writes a Llama-shaped model folder with seeded random weights.");
  Options options;
  app.add_option("--shape", options.shape, "a named set of sizes; the options below change single sizes")
      ->check(CLI::IsMember({"tinyllama", "llama160m", "stories"}));
  app.add_option("--vocab-size", options.vocab_size, "tokens in the vocabulary")->check(CLI::PositiveNumber);
  app.add_option("--hidden-size", options.hidden_size, "width of the model")->check(CLI::PositiveNumber);
  app.add_option("--intermediate-size", options.intermediate_size, "width inside the MLP")->check(CLI::PositiveNumber);
  app.add_option("--layers", options.layers, "number of layers")->check(CLI::PositiveNumber);
  app.add_option("--heads", options.heads, "query heads")->check(CLI::PositiveNumber);
  app.add_option("--kv-heads", options.kv_heads, "key and value heads (default: as many as query heads)")
      ->check(CLI::PositiveNumber);
  app.add_option("--max-position-embeddings", options.max_positions, "longest text in tokens")->check(CLI::PositiveNumber);
  app.add_flag("--tie", options.tie, "the output head uses the embedding matrix");
  app.add_option("--leader-map", options.leader_map, "shared attention: one leader per layer, e.g. 0,1,1,3")->delimiter(',');
  app.add_option("--format", options.format, "format of the weight files")
      ->check(CLI::IsMember({"safetensors", "bin"}))
      ->capture_default_str();
  app.add_option("--shards", options.shards, "largest number of weight files")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--dtype", options.dtype, "precision of the stored weights")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--tokenizer", options.tokenizer, "copied into the folder as tokenizer.model");
  app.add_option("--seed", options.seed, "seed for the random weights")->capture_default_str();
  app.add_option("--output", options.output, "folder to write: new or empty")->required();
  return run_program(app, argc, argv, [&] { return make_checkpoint(options); });
}
