#pragma once

#include "data/data_loader.h"
#include "nn/language_model.h"

namespace echo {

// Results of a model on held-out text: means over tokens.
struct EvaluationResult {
  double loss = 0;                // next-token cross-entropy, nats
  double kl_teacher_student = 0;  // KL(teacher || model), nats; 0 without a teacher
  double agreement = 0;           // share of positions where model and teacher have the same most likely token
  double accuracy = 0;            // share where the model's most likely token is the true one
  int64_t tokens = 0;
  double tokens_per_second = 0;  // of the model's forward pass including the head, for the fastest batch
};

// Evaluates `model` on the batches, and compares it with `teacher` if that is not null. Batches are copied to the device of the
// model, where the teacher must be too. Without batches, or when no label counts, all results are 0. Records nothing. Throws
// Error when the models differ in vocabulary or device; Error (device) when memory runs out.
EvaluationResult evaluate(const LanguageModel& model, const LanguageModel* teacher, const std::vector<Batch>& batches,
                          DType compute_dtype);

}  // namespace echo
