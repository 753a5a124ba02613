// A tiny Llama learns to count with an unknown step (3 5 7 9 ..., modulo 16). Then a student that shares attention matrices
// starts from its weights, and is distilled to behave like it.
//   make examples && build/*/bin/examples/tiny_llama
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "autograd/no_grad.h"
#include "autograd/ops.h"
#include "base/program.h"
#include "base/random.h"
#include "nn/model_io.h"
#include "training/optimizer.h"

using namespace echo;

namespace {

constexpr int64_t kBatch = 16, kTokens = 12, kVocabulary = 16, kRows = kBatch * kTokens;

struct Batch {
  Tensor ids;     // (B, T)
  Tensor labels;  // (B * T): the next token; -1 (ignored) at the first position, where the step is unknown
};

Batch make_batch(uint64_t index) {
  RandomSequence random(/*seed=*/7, /*stream=*/index);
  std::vector<int32_t> ids, labels;
  for (int64_t b = 0; b < kBatch; ++b) {
    const int64_t start = int64_t(random.below(kVocabulary)), step = 1 + int64_t(random.below(5));
    for (int64_t t = 0; t < kTokens; ++t) {
      ids.push_back(int32_t((start + t * step) % kVocabulary));
      labels.push_back(t == 0 ? -1 : int32_t((start + (t + 1) * step) % kVocabulary));
    }
  }
  return {Tensor::from(ids, {kBatch, kTokens}), Tensor::from(labels)};
}

Variable hidden_rows(const LanguageModel& model, const Tensor& ids) {
  return reshape(model.forward(ids, {}).hidden, {kRows, model.config().hidden_size});
}

// The mean loss per token: on true labels, or with a teacher the divergence KL(teacher || student) of the predictions.
Variable loss_of(const LanguageModel& model, const Batch& batch, const LanguageModel* teacher) {
  kernels::DistillationWeights weights{.kl = 0, .hard_label = 0, .true_label = 1};
  Tensor teacher_hidden, teacher_head;
  if (teacher != nullptr) {
    const NoGrad no_grad;
    weights = {.kl = 1, .hard_label = 0, .true_label = 0, .direction = kernels::KlDirection::teacher_student};
    teacher_hidden = hidden_rows(*teacher, batch.ids).data();
    teacher_head = teacher->head_weight().data();
  }
  return scale(distillation_loss(hidden_rows(model, batch.ids), model.head_weight(), teacher_hidden, teacher_head, batch.labels,
                                 weights),
               1.0 / double(kBatch * (kTokens - 1)));
}

// Returns the loss on a batch that was not used for training.
double train(LanguageModel& model, const LanguageModel* teacher, int steps, double learning_rate) {
  AdamW optimizer(model, {});
  for (int step = 0; step < steps; ++step) {
    Variable loss = loss_of(model, make_batch(uint64_t(step)), teacher);
    loss.backward();
    optimizer.step(learning_rate, optimizer.gradient_norm());
    optimizer.clear_gradients();
    if (step % 50 == 0) std::printf("  step %3d  loss %.4f\n", step, loss.data().item());
  }
  const NoGrad no_grad;
  return loss_of(model, make_batch(1'000'000), teacher).data().item();
}

int run() {
  LlamaConfig config;
  config.vocab_size = kVocabulary;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_hidden_layers = 4;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  const auto teacher = make_model(config, LeaderMap::own(4), {});
  initialize(*teacher, /*standard_deviation=*/0.1, /*seed=*/1);
  std::printf("teacher, %lld parameters, true labels:\n", static_cast<long long>(teacher->parameter_count()));
  const double teacher_loss = train(*teacher, nullptr, 250, 3e-3);
  std::printf("  held-out loss %.4f\n", teacher_loss);

  // Layers 1 to 3 use the matrix of layer 0, which is more sharing than a real model would tolerate. Every tensor of the
  // student has a tensor of the same name in the teacher.
  const auto student = make_model(config, LeaderMap({0, 0, 0, 0}), {});
  std::map<std::string, Tensor> weights;
  for (const NamedTensor& part : teacher->named_tensors()) weights[part.name] = part.tensor;
  for (NamedTensor& part : student->named_tensors()) part.tensor.copy_from(weights.at(part.name));
  std::printf("student, layers %s, %lld parameters, divergence from the teacher:\n", student->leader_map().describe().c_str(),
              static_cast<long long>(student->parameter_count()));
  const double before = train(*student, teacher.get(), 0, 0), after = train(*student, teacher.get(), 150, 1e-3);
  std::printf("  held-out divergence %.4f before, %.4f after\n", before, after);
  return teacher_loss < 0.5 && after < before / 2 ? 0 : 1;
}

}  // namespace

int main() { return run_program(run); }
