// A second family, defined only in this file. One call adds it. Then it is stored, loaded, evaluated, trained and used for
// generation like any other.
#include "nn/model_families.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "autograd/no_grad.h"
#include "autograd/ops.h"
#include "base/file.h"
#include "base/strict_json.h"
#include "evaluation/evaluation.h"
#include "kernels/decode/cache_append.h"
#include "nn/checkpoint_writer.h"
#include "nn/generator.h"
#include "nn/model_io.h"
#include "tests/test_support.h"
#include "training/distillation.h"

namespace echo {
namespace {

// The next token depends only on the last one: hidden = RMSNorm(embedding), logits = hidden times a head.
class Bigram : public LanguageModel {
 public:
  Bigram(const LlamaConfig& config, const LeaderMap& leader_map, const WeightOptions& options)
      : LanguageModel(config, leader_map) {
    embedding_ = add_parameter({{"table.weight", config.vocab_size}}, config.hidden_size, options);
    norm_ = add_parameter({{"norm.weight", config.hidden_size}}, 0, options);
    head_ = add_parameter({{"head.weight", config.vocab_size}}, config.hidden_size, options);
  }
  ForwardResult forward(const Tensor& ids, const ForwardOptions& options) const override {
    const int64_t batch = ids.dim(0), tokens = ids.dim(1);
    ForwardResult result;
    result.hidden = reshape(hidden_of(ids.reshape({batch * tokens}), options.compute_dtype), {batch, tokens, norm_.shape()[0]});
    return result;
  }
  std::vector<Parameter*> layer_parameters(int64_t /*layer*/) const override { return {}; }
  const Variable& head_weight() const override { return head_; }
  KvCache make_cache(int64_t batch, int64_t capacity, DType) const override {
    KvCache cache;
    cache.capacity = capacity;
    cache.lengths = Tensor::zeros({batch}, DType::i32, device());
    return cache;
  }
  Tensor decode(const Tensor& ids, KvCache& cache, DType compute_dtype) const override {
    const NoGrad no_grad;
    cache.count_position();
    kernels::extend_lengths(cache.lengths, cache.capacity);
    return hidden_of(ids, compute_dtype).data();
  }

 private:
  Variable hidden_of(const Tensor& ids, DType dtype) const {
    return rms_norm(embedding(embedding_, ids.to(device()), dtype), norm_, config().rms_norm_eps);
  }
  Variable embedding_, norm_, head_;
};

ModelFamily bigram_family() {
  return {.model_type = "bigram",
          .architecture = "BigramForCausalLM",
          .older_architecture = "",
          .shared_model_type = "shared_bigram",
          .shared_architecture = "SharedBigramForCausalLM",
          .read_config =
              [](const ConfigFields& fields) {
                LlamaConfig config;
                config.vocab_size = fields.integer("vocab_size");
                config.hidden_size = fields.integer("width");
                config.intermediate_size = config.num_hidden_layers = 1;
                config.num_attention_heads = config.num_key_value_heads = 1, config.head_dim = 2;
                return config;
              },
          .write_config =
              [](const LlamaConfig& config, nlohmann::json& json) {
                json["vocab_size"] = config.vocab_size;
                json["width"] = config.hidden_size;
              },
          .weight_shapes =
              [](const LlamaConfig& config, const LeaderMap&) {
                return std::vector<WeightShape>{{"table.weight", {config.vocab_size, config.hidden_size}},
                                                {"norm.weight", {config.hidden_size}},
                                                {"head.weight", {config.vocab_size, config.hidden_size}}};
              },
          .make = [](const LlamaConfig& config, const LeaderMap& map, const WeightOptions& options)
              -> std::unique_ptr<LanguageModel> { return std::make_unique<Bigram>(config, map, options); }};
}

ModelDescription description() {
  [[maybe_unused]] static const bool once = (add_model_family(bigram_family()), true);
  const nlohmann::json json = {{"model_type", "bigram"}, {"vocab_size", 12}, {"width", 6}};
  return model_description_from_json(json, "config.json");
}

TEST(ModelFamiliesTest, ASecondFamilyIsStoredAndLoadedLikeTheFirst) {
  const ModelDescription model = description();
  EXPECT_EQ(model.config.family, "bigram");
  EXPECT_EQ(parameter_count(model.config, model.leader_map), 12 * 6 * 2 + 6);
  const auto made = make_model(model.config, model.leader_map, {});
  initialize(*made, 0.5, 3);
  NamedTensors tensors;
  for (const NamedTensor& tensor : made->named_tensors()) tensors.emplace_back(tensor.name, tensor.tensor);
  const TemporaryFolder folder;
  save_model_folder(folder / "model", model, tensors);
  EXPECT_EQ(parse_strict_json(read_file(folder / "model/generation_config.json"), "generation_config.json"),
            (nlohmann::json{{"_from_model_config", true}}))
      << "this family writes no token ids";
  const auto loaded = load_model(CheckpointReader(folder / "model"), {});
  EXPECT_NE(dynamic_cast<const Bigram*>(loaded.get()), nullptr);
  EXPECT_EQ(loaded->head_weight().data().to_vector<float>(), made->head_weight().data().to_vector<float>());
}

TEST(ModelFamiliesTest, AStudentOfAnyFamilyMayLeaveOutWeightsOfItsTeacher) {
  const ModelDescription model = description();
  NamedTensors tensors;
  for (const WeightShape& weight : weight_shapes(model.config, model.leader_map))
    tensors.emplace_back(weight.name, Tensor::zeros(weight.shape, DType::f32));
  const TemporaryFolder folder;
  save_model_folder(folder / "model", model, tensors);
  const CheckpointReader reader(folder / "model");
  std::vector<WeightShape> student = weight_shapes(model.config, model.leader_map);
  student.pop_back();
  EXPECT_EQ(error_message(ExitCode::bad_data, [&] { reader.check(student); }),
            (folder / "model").string() + ": the weights do not fit config.json: 1 not expected: head.weight");
  reader.check(student, {.allow_unused = true});
}

TEST(ModelFamiliesTest, ASecondFamilyIsTrainedEvaluatedAndGeneratedFrom) {
  const ModelDescription model = description();
  const auto bigram = make_model(model.config, model.leader_map, {});
  initialize(*bigram, 0.5, 3);
  Batch batch;
  batch.rows = 1, batch.sequence_length = 5, batch.valid_tokens = 5;
  batch.inputs = {1, 2, 3, 4, 5}, batch.labels = {2, 3, 4, 5, 6};
  const double before = evaluate(*bigram, nullptr, {batch}, DType::f32).loss;
  for (int step = 0; step < 50; ++step) {
    accumulate_gradients(*bigram, nullptr, batch, true_label_loss(), {}, batch.valid_tokens);
    for (Parameter* parameter : bigram->parameters()) {
      Tensor& data = parameter->variable.data();
      const std::vector<float> gradient = parameter->variable.gradient().to_vector<float>();
      for (size_t i = 0; i < gradient.size(); ++i) data.data<float>()[i] -= gradient[i];
      parameter->variable.clear_gradient();
    }
  }
  EXPECT_LT(evaluate(*bigram, nullptr, {batch}, DType::f32).loss, before / 4);
  GenerationOptions options;
  options.max_new_tokens = 4;
  std::vector<int32_t> written;
  generate(*bigram, {{7, 2}}, options, [&](size_t, int32_t id) { written.push_back(id); });
  EXPECT_EQ(written, (std::vector<int32_t>{3, 4, 5, 6}));
}

TEST(ModelFamiliesTest, NamesOfTwoFamiliesInOneConfigAreRefused) {
  description();
  const auto refused = [](const nlohmann::json& json) {
    return error_message(ExitCode::bad_data, [&] { model_description_from_json(json, "config.json"); });
  };
  std::string text = refused({{"model_type", "llama"}, {"architectures", {"BigramForCausalLM"}}});
  expect_contains(text, "BigramForCausalLM is not of that type");
  text = refused({{"model_type", "mistral"}});
  expect_contains(text, "llama, shared_attention_llama, bigram and shared_bigram are");
}

}  // namespace
}  // namespace echo
