#include "kernels/losses/distillation_rows.h"

#include <algorithm>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/losses/logit_rows.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace cpu {
namespace {

// The two tokens whose gradient contains a one-hot part, and the size of each part.
template <class A>
struct Targets {
  int64_t hard, label;
  A hard_weight, label_weight;
};

// gradient[i] = at(i) minus the one-hot parts. The two target elements are computed before anything is rounded to G or
// overwritten in place, because p - 1 is a small difference when the student is sure of a target.
template <class A, class G, class At>
[[gnu::flatten]] void write_gradient(G* gradient, int64_t count, const Targets<A>& targets, At at) {
  const bool same = targets.hard == targets.label;
  const A both = targets.hard_weight + targets.label_weight;
  const A hard = at(targets.hard) - (same ? both : targets.hard_weight);
  const A label = at(targets.label) - (same ? both : targets.label_weight);
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) assign(gradient[i], at(i));
  gradient[targets.hard] = G(hard);
  gradient[targets.label] = G(label);
}

// at(i) = softmax_factor * exp(s) + share(exp(s'), s', t'). s is at temperature 1, s' and t' at the pair's temperature, and
// share is the part of the divergence. The lambdas hold plain values instead of the pair (see RowPair).
template <class A, class G, class Share>
void write_pair_gradient(G* gradient, const RowPair<A>& pair, const Targets<A>& targets, A softmax_factor, Share share) {
  const A *student = pair.student, *teacher = pair.teacher;
  const A student_peak = pair.student_peak, teacher_peak = pair.teacher_peak, beta = pair.beta;
  if (beta == A(1)) {
    write_gradient(gradient, pair.count, targets, [=](int64_t i) {
      const A s = student[i] - student_peak, e = exponential(s);
      return softmax_factor * e + share(e, s, teacher[i] - teacher_peak);
    });
  } else {
    write_gradient(gradient, pair.count, targets, [=](int64_t i) {
      const A s = (student[i] - student_peak) * beta, t = (teacher[i] - teacher_peak) * beta;
      return softmax_factor * exponential(student[i] - student_peak) + share(exponential(s), s, t);
    });
  }
}

// With p = softmax(s'), s' = s / tau, and K = tau^2 * divergence(p, q), the gradient with respect to s is
//   KL(p || q):      tau p ((log p - log q) - KL) = tau p (d - sum p d)
//   KL(q || p):      tau (p - q)
//   Jensen-Shannon:  tau p ((log p - log m) - KL(p || m)) / 2
template <class A, class G>
void write_divergence_gradient(G* gradient, const RowPair<A>& pair, const PairSums& sums, const MeanSums& mean_sums,
                               const Targets<A>& targets, A softmax_factor, KlDirection direction, double factor) {
  const A p_factor = A(factor / sums.student_z);
  if (direction == KlDirection::student_teacher) {
    const A mean_d = A(sums.student_d);
    write_pair_gradient(gradient, pair, targets, softmax_factor,
                        [=](A e, A s, A t) { return p_factor * e * (s - t - mean_d); });
  } else if (direction == KlDirection::teacher_student) {
    const A q_factor = A(factor / sums.teacher_z);
    write_pair_gradient(gradient, pair, targets, softmax_factor,
                        [=](A e, A, A t) { return p_factor * e - q_factor * exponential(t); });
  } else {
    const A half = p_factor / 2, log_ratio = A(sums.log_ratio()), kl_mean = A(mean_sums.student);
    write_pair_gradient(gradient, pair, targets, softmax_factor,
                        [=](A e, A s, A t) { return half * e * (log_over_mean(s - t + log_ratio) - kl_mean); });
  }
}

template <class A>
struct Row {
  const A* student;
  const A* teacher;  // null without a teacher
  int64_t count;
  int64_t label;
};

// The terms of a row with a logit that is not finite: every loss is NaN, so that the caller sees it.
template <class G>
DistillationTerms poisoned_row(G* gradient, int64_t count) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  if (gradient != nullptr) std::fill(gradient, gradient + count, G(accumulator<G>(kNan)));
  DistillationTerms terms{.rows = 1};
  DistillationTerms::visit([&](const LossTerm&, auto member) {
    if constexpr (std::is_same_v<decltype(member), double DistillationTerms::*>) terms.*member = kNan;
  });
  return terms;
}

template <class A, class G>
DistillationTerms label_row(G* gradient, const Row<A>& row, double weight) {
  const Peak<A> peak = find_peak(row.student, row.count);
  if (!peak.finite) return poisoned_row(gradient, row.count);
  const double z = sum_exponentials(row.student, row.count, peak.value);
  DistillationTerms terms{.rows = 1};
  terms.true_label = std::log(z) - double(row.student[row.label] - peak.value);
  terms.correct = peak.index == row.label;
  if (gradient != nullptr) {
    const A *student = row.student, highest = peak.value, factor = A(weight / z);
    const Targets<A> targets{row.label, row.label, A(0), A(weight)};
    write_gradient(gradient, row.count, targets, [=](int64_t i) { return factor * exponential(student[i] - highest); });
  }
  return terms;
}

template <class A, class G>
DistillationTerms pair_row(G* gradient, const Row<A>& row, const DistillationWeights& weights, double gradient_scale) {
  const Peak<A> student = find_peak(row.student, row.count), teacher = find_peak(row.teacher, row.count);
  if (!student.finite || !teacher.finite) return poisoned_row(gradient, row.count);
  const RowPair<A> plain{row.student, row.teacher, row.count, student.value, teacher.value, A(1)};
  const PairSums plain_sums = sum_pair(plain);
  const double log_z = std::log(plain_sums.student_z);
  const bool train_mean = weights.kl != 0 && weights.direction == KlDirection::jensen_shannon;
  const bool tempered = weights.kl != 0 && weights.temperature != 1;

  DistillationTerms terms{.rows = 1};
  terms.kl_student_teacher = plain_sums.kl_student_teacher();
  terms.kl_teacher_student = plain_sums.kl_teacher_student();
  terms.hard_label = log_z - double(row.student[teacher.index] - student.value);
  terms.true_label = log_z - double(row.student[row.label] - student.value);
  terms.agreements = student.index == teacher.index;
  terms.correct = student.index == row.label;

  RowPair<A> pair = plain;
  PairSums sums = plain_sums;
  MeanSums mean_sums;
  if (tempered) {
    pair.beta = A(1 / weights.temperature);
    sums = sum_pair(pair);
  }
  if (train_mean) mean_sums = sum_against_mean(pair, sums);
  if (weights.kl != 0) {
    const double divergence = weights.direction == KlDirection::student_teacher   ? sums.kl_student_teacher()
                              : weights.direction == KlDirection::teacher_student ? sums.kl_teacher_student()
                                                                                  : mean_sums.jensen_shannon();
    terms.kl = weights.temperature * weights.temperature * divergence;
  }
  if (gradient == nullptr) return terms;

  const double one_hot = gradient_scale * (weights.hard_label + weights.true_label);
  const Targets<A> targets{teacher.index, row.label, A(gradient_scale * weights.hard_label),
                           A(gradient_scale * weights.true_label)};
  const A softmax_factor = A(one_hot / plain_sums.student_z);
  if (weights.kl != 0) {
    write_divergence_gradient(gradient, pair, sums, mean_sums, targets, softmax_factor, weights.direction,
                              gradient_scale * weights.kl * weights.temperature);
  } else {
    const A *logits = row.student, highest = student.value;
    write_gradient(gradient, row.count, targets, [=](int64_t i) { return softmax_factor * exponential(logits[i] - highest); });
  }
  return terms;
}

template <class A, class G>
DistillationTerms sum_rows(G* gradient, const A* student_logits, const A* teacher_logits, const int32_t* labels, int64_t rows,
                           int64_t vocabulary, const DistillationWeights& weights, double gradient_scale) {
  std::vector<DistillationTerms> results(static_cast<size_t>(rows));
#pragma omp parallel for schedule(static) if (rows * vocabulary > kSerialElements)
  for (int64_t i = 0; i < rows; ++i) {
    G* target = gradient != nullptr ? gradient + i * vocabulary : nullptr;
    if (labels[i] < 0) {
      if (target != nullptr) std::fill(target, target + vocabulary, G(accumulator<G>(0)));
      continue;
    }
    const Row<A> row{student_logits + i * vocabulary, teacher_logits != nullptr ? teacher_logits + i * vocabulary : nullptr,
                     vocabulary, labels[i]};
    results[size_t(i)] = row.teacher != nullptr ? pair_row(target, row, weights, gradient_scale)
                                                : label_row(target, row, gradient_scale * weights.true_label);
  }
  DistillationTerms total;
  for (const DistillationTerms& terms : results) total += terms;
  return total;
}

}  // namespace

void distillation_rows(RowTerms& terms, int64_t, Tensor& gradient, const Tensor& student_logits, const Tensor& teacher_logits,
                       const Tensor& labels, const DistillationWeights& weights, double gradient_scale) {
  // A: the type of the logits. G: the type of their gradient.
  const auto run = [&]<class A, class G>(A, G) {
    terms.sums += sum_rows(gradient.defined() ? gradient.data<G>() : nullptr, student_logits.data<A>(),
                           teacher_logits.defined() ? teacher_logits.data<A>() : nullptr, labels.data<int32_t>(),
                           student_logits.dim(0), student_logits.dim(1), weights, gradient_scale);
  };
  if (student_logits.dtype() == DType::f64)
    run(double{}, double{});
  else if (gradient.defined() && gradient.dtype() == DType::bf16)
    run(float{}, bfloat16{});
  else
    run(float{}, float{});
}

DistillationTerms total(const RowTerms& terms) { return terms.sums; }

}  // namespace cpu

RowTerms::RowTerms(int64_t rows, Device device) {
  if (!device.is_cpu()) of_rows = Tensor::empty({count_terms<DistillationTerms>(), rows}, DType::f32, device);
}

void distillation_rows(RowTerms& terms, int64_t first_row, Tensor& gradient, const Tensor& student_logits,
                       const Tensor& teacher_logits, const Tensor& labels, const DistillationWeights& weights,
                       double gradient_scale) {
  ECHO_DISPATCH_DEVICE(student_logits, distillation_rows, terms, first_row, gradient, student_logits, teacher_logits, labels,
                       weights, gradient_scale);
}

DistillationTerms total(const RowTerms& terms) { return ECHO_DISPATCH_DEVICE(terms, total, terms); }

void check_labels(const char* operation, const Tensor& labels, int64_t vocabulary) {
  if (!labels.device().is_cpu()) return;
  const int32_t* values = labels.data<int32_t>();
  for (int64_t i = 0, rows = labels.elements(); i < rows; ++i)
    ECHO_CHECK(values[i] >= -1 && values[i] < vocabulary, operation, ": label ", values[i], " in row ", i, ", expected -1 to ",
               vocabulary - 1);
}

}  // namespace echo::kernels
