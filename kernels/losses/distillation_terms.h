#pragma once

#include <cstdint>

#include "kernels/losses/loss_term.h"

// What the distillation loss consists of: the weights of its terms, and their sums.
namespace echo::kernels {

// The direction of the divergence between the distributions s (student) and t (teacher). m = (s + t) / 2.
enum class KlDirection {
  student_teacher,  // KL(s || t) = sum s (log s - log t)
  teacher_student,  // KL(t || s)
  jensen_shannon,   // KL(s || m) / 2 + KL(t || m) / 2
};

// The loss of a token is  kl * K + hard_label * H + true_label * C  with
//   K = temperature^2 * divergence of softmax(logits / temperature). The factor keeps the size of the gradient the same at any
//       temperature.
//   H = cross-entropy of the student against the teacher's most likely token.
//   C = cross-entropy of the student against the true next token.
struct DistillationWeights {
  double kl = 0.25;
  double hard_label = 0.5;
  double true_label = 0;
  KlDirection direction = KlDirection::student_teacher;
  double temperature = 1;
};

// Sums over the rows that count, in nats. (For means, divide by the number of tokens of the whole step.) All except `kl` are at
// temperature 1. Terms that need a teacher are 0 without one.
struct DistillationTerms {
  double kl = 0;  // K of the trained direction, which `weights.kl` multiplies; 0 when that weight is 0
  double kl_student_teacher = 0;
  double kl_teacher_student = 0;
  double hard_label = 0;
  double true_label = 0;
  int64_t rows = 0;        // rows that count
  int64_t agreements = 0;  // student and teacher have the same most likely token
  int64_t correct = 0;     // the student's most likely token is the true one

  // The list of the terms (kernels/losses/loss_term.h).
  template <class Field>
  static constexpr void visit(Field&& field) {
    using Terms = DistillationTerms;
    field(LossTerm{"true_label", "true_label"}, &Terms::true_label);
    field(LossTerm{"kl", "kl", Computed::with_kl_weight}, &Terms::kl);
    field(LossTerm{"kl_student_teacher", "kl_student_teacher", Computed::with_teacher}, &Terms::kl_student_teacher);
    field(LossTerm{"kl_teacher_student", "kl_teacher_student", Computed::with_teacher}, &Terms::kl_teacher_student);
    field(LossTerm{"hard_label", "hard_label", Computed::with_teacher}, &Terms::hard_label);
    field(LossTerm{"rows", nullptr}, &Terms::rows);
    field(LossTerm{"agreements", "agreement", Computed::with_teacher}, &Terms::agreements);
    field(LossTerm{"correct", "accuracy"}, &Terms::correct);
  }
  DistillationTerms& operator+=(const DistillationTerms& other) {
    add_terms(*this, other);
    return *this;
  }
};
static_assert(sizeof(DistillationTerms) == count_terms<DistillationTerms>() * sizeof(double), "visit() leaves a member out");

// The weighted sum of the terms: the value of the loss.
inline double weighted_loss(const DistillationTerms& terms, const DistillationWeights& weights) {
  return weights.kl * terms.kl + weights.hard_label * terms.hard_label + weights.true_label * terms.true_label;
}

}  // namespace echo::kernels
