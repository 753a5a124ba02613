#pragma once

// Whole models with random weights for gpu_benchmark: a training step, a distillation step, a step of generation.
#include <map>
#include <memory>

#include "benchmarks/benchmark_case.h"
#include "nn/decode_step.h"
#include "nn/model_io.h"
#include "training/distillation.h"
#include "training/optimizer.h"

namespace echo::benchmarks {

// {"layers", "hidden", "heads", "kv_heads", "head_dim", "mlp", "vocab"}
inline LlamaConfig config_from(const nlohmann::json& model) {
  LlamaConfig config;
  config.num_hidden_layers = model.at("layers"), config.hidden_size = model.at("hidden");
  config.num_attention_heads = model.at("heads"), config.num_key_value_heads = model.at("kv_heads");
  config.head_dim = model.at("head_dim"), config.intermediate_size = model.at("mlp"), config.vocab_size = model.at("vocab");
  config.rms_norm_eps = 1e-5;
  return config;
}

// Random matrices, and norm weights of one. `leaders`: null for a model without sharing.
inline std::unique_ptr<LanguageModel> random_model(const nlohmann::json& request, const nlohmann::json& leaders,
                                                   const WeightOptions& options) {
  const LlamaConfig config = config_from(request.at("model"));
  const LeaderMap map = leaders.is_null() ? LeaderMap::own(config.num_hidden_layers) : LeaderMap::from_json(leaders);
  auto model = make_model(config, map, options);
  uint64_t seed = 1;
  for (Parameter* parameter : model->parameters()) {
    Tensor& data = parameter->variable.data();
    data.copy_from(data.rank() == 2 ? random_tensor(data.shape(), data.dtype(), data.device(), seed++, 0.02)
                                    : Tensor::full(data.shape(), 1, data.dtype(), data.device()));
  }
  return model;
}

// A model in training. Several cases may train the same one.
struct Student {
  std::unique_ptr<LanguageModel> model;
  std::unique_ptr<AdamW> optimizer;
};

// Models that prepared cases share until gpu_benchmark releases everything.
struct ModelShelf {
  std::map<std::string, std::shared_ptr<Student>> students;
  std::map<std::string, std::shared_ptr<LanguageModel>> frozen;
};

inline nlohmann::json leaders_of(const nlohmann::json& request) { return request.value("leaders", nlohmann::json()); }

inline std::shared_ptr<Student> student_for(const nlohmann::json& request, Device device, ModelShelf& shelf) {
  const std::string key = request.at("model").dump() + leaders_of(request).dump() + request.value("dtype", "bf16");
  std::shared_ptr<Student>& student = shelf.students[key];
  if (student != nullptr) return student;
  student = std::make_shared<Student>();
  student->model = random_model(request, leaders_of(request), {DType::f32, true, device});
  student->optimizer = std::make_unique<AdamW>(*student->model, OptimizerSettings());
  student->model->keep_compute_copies(dtype_from(request));
  return student;
}

inline std::shared_ptr<LanguageModel> frozen_for(const nlohmann::json& request, const nlohmann::json& leaders, Device device,
                                                 ModelShelf& shelf) {
  std::shared_ptr<LanguageModel>& model = shelf.frozen[request.at("model").dump() + leaders.dump()];
  if (model == nullptr) model = random_model(request, leaders, {dtype_from(request), false, device});
  return model;
}

// {"model", "rows", "tokens", "leaders", "distill"}: forward and backward pass, gradient norm, clipping, AdamW.
inline BenchmarkCase step_case(const nlohmann::json& request, Device device, ModelShelf& shelf) {
  const auto student = student_for(request, device, shelf);
  const bool distill = request.value("distill", false);
  const auto teacher = distill ? frozen_for(request, {}, device, shelf) : nullptr;
  const LossSettings loss = distill ? stage_loss(settings::Distillation()) : true_label_loss();
  Batch batch;
  batch.rows = request.at("rows");
  batch.sequence_length = request.at("tokens");
  batch.valid_tokens = batch.rows * batch.sequence_length;
  const int64_t vocabulary = student->model->config().vocab_size;
  batch.inputs = random_ids(batch.valid_tokens, vocabulary, 3);
  batch.labels = random_ids(batch.valid_tokens, vocabulary, 4);
  ForwardOptions options;
  options.compute_dtype = dtype_from(request);
  const auto last = std::make_shared<double>(0);
  BenchmarkCase result;
  result.work = [=] {
    const LossSums sums = accumulate_gradients(*student->model, teacher.get(), batch, loss, options, batch.valid_tokens);
    *last = sums.loss / double(sums.tokens);
    student->optimizer->step(1e-4, student->optimizer->gradient_norm());
    student->optimizer->clear_gradients();
  };
  result.report = [last, count = student->model->parameter_count()](nlohmann::json& answer) {
    answer["loss"] = *last;
    answer["parameters"] = count;
  };
  return result;
}

// {"model", "batch", "context", "steps", "leaders"}: the next `steps` tokens of each sequence after `context` cached positions.
// The host reads every token, as in generation.
inline BenchmarkCase decode_case(const nlohmann::json& request, Device device, ModelShelf& shelf) {
  struct Generation {
    std::shared_ptr<LanguageModel> model;
    KvCache cache;
    std::unique_ptr<DecodeStep> step;
    std::vector<int32_t> ids;
  };
  const int64_t batch = request.at("batch"), context = request.at("context"), steps = request.at("steps");
  const DType dtype = dtype_from(request);
  const auto generation = std::make_shared<Generation>();
  generation->model = frozen_for(request, leaders_of(request), device, shelf);
  generation->cache = generation->model->make_cache(batch, context + steps, dtype);
  const LlamaConfig& config = generation->model->config();
  const Tensor filling = random_tensor({batch, context + steps, config.num_key_value_heads, config.head_dim}, dtype, device, 7);
  for (KvCache::Layer& layer : generation->cache.layers) {
    if (layer.k.defined()) layer.k.copy_from(filling);
    layer.v.copy_from(filling);
  }
  generation->step = std::make_unique<DecodeStep>(*generation->model, generation->cache, dtype);
  generation->ids = random_ids(batch, config.vocab_size, 8);
  BenchmarkCase result;
  result.iterations = steps;
  result.before = [generation, batch, context] {
    generation->cache.set_lengths(std::vector<int32_t>(size_t(batch), int32_t(context)));
  };
  result.work = [generation] { generation->ids = generation->step->most_likely(generation->ids); };
  result.report = [generation](nlohmann::json& answer) {
    answer["cache_bytes"] = generation->cache.bytes();
    answer["parameters"] = generation->model->parameter_count();
  };
  return result;
}

}  // namespace echo::benchmarks
