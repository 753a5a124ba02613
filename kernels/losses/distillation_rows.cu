// Losses of logits on a GPU. A block owns a row and has one thread per 16 logits, at most 512 threads. Each
// thread takes vectors of 16 bytes at a fixed step. The first pass reads both rows once and computes maxima, normalisers and
// divergences together, against running references (logit_rows.cuh). The second pass reads the rows again, mostly from the L2
// cache, and writes the gradient. Jensen-Shannon needs an extra pass between them, because it needs the normalisers first.
// Shared memory: 768 bytes. Bytes per pair of logits: 8 read, 8 read again, and 2 written in bf16 (4 in f32); 8 in total
// without a gradient.
// Each row stores its terms (32 bytes). After all chunks, one block per term adds them up in f64 in a fixed order.
#include "kernels/losses/distillation_rows.h"
#include "kernels/losses/logit_rows.cuh"
#include "tensor/cuda_memory.h"

namespace echo::kernels::cuda {
namespace {

// The settings of a call, the same for all rows.
struct RowSettings {
  float beta, temperature_squared;
  float kl_factor;                  // gradient_scale * kl * temperature
  float hard_weight, label_weight;  // times gradient_scale
  bool with_kl;
  KlDirection direction;
};

constexpr int kRowTerms = count_terms<DistillationTerms>();

struct MeanSums {
  float student = 0;  // sum p (log p - log m)
  float teacher = 0;  // sum q (log q - log m)
};

// A row after the first pass. `sums` are relative to its peaks, at the trained temperature.
struct Row {
  float student_peak, teacher_peak;
  PairSums sums;
  float log_ratio;  // log Zt - log Zs
};

// The logarithm of the quotient, which is near 1 when the distributions are alike. A difference of logarithms would cancel
// there.
__device__ __forceinline__ float log_ratio_of(const PairSums& sums) { return logf(sums.teacher_z / sums.student_z); }

// beta converts differences at temperature 1 into differences at the row's temperature.
__device__ __forceinline__ float kl_student_teacher(const Row& row, float beta) {
  return beta * row.sums.student_d / row.sums.student_z + row.log_ratio;
}
__device__ __forceinline__ float kl_teacher_student(const Row& row, float beta) {
  return -beta * row.sums.teacher_d / row.sums.teacher_z - row.log_ratio;
}

__device__ __forceinline__ MeanSums sum_against_mean(const LogitRows& rows, const Row& row, float beta, float* scratch) {
  const float scale = beta * kLog2E;
  float values[2] = {0, 0};
  for_each_logit<true>(rows, [&](int, const auto& s, const auto& t) {
    constexpr int kCount = sizeof s / sizeof s[0];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float a = s[i] - row.student_peak, b = t[i] - row.teacher_peak, x = beta * (a - b) + row.log_ratio;
      values[0] += fast_exp2(a * scale) * log_over_mean(x);
      values[1] += fast_exp2(b * scale) * log_over_mean(-x);  // both need the same logarithm, which the compiler computes once
    }
  });
  sum_over_block(values, scratch);
  return {values[0] / row.sums.student_z, values[1] / row.sums.teacher_z};
}

template <int kCount>
__device__ __forceinline__ void store_row(float* to, const float (&values)[kCount]) {
  store_elements(to, values);
}
__device__ __forceinline__ void store_row(bfloat16* to, const float (&values)[1]) { store_elements(to, values); }
__device__ __forceinline__ void store_row(bfloat16* to, const float (&values)[kRowVector]) {
  *reinterpret_cast<uint2*>(to) = make_uint2(pack_bf16(values[0], values[1]), pack_bf16(values[2], values[3]));
}

// gradient[i] = at(s, t) minus the one-hot parts, which are subtracted before rounding.
template <bool kTeacher, class G, class At>
__device__ __forceinline__ void write_gradient(G* gradient, const LogitRows& rows, const RowSettings& settings, int hard,
                                               int label, At at) {
  for_each_logit<kTeacher>(rows, [&](int begin, const auto& s, const auto& t) {
    constexpr int kCount = sizeof s / sizeof s[0];
    float result[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) result[i] = at(s[i], t[i]);
    if (unsigned(hard - begin) < unsigned(kCount) || unsigned(label - begin) < unsigned(kCount)) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        float one_hot = begin + i == hard ? settings.hard_weight : 0.0f;
        if (begin + i == label) one_hot += settings.label_weight;
        result[i] -= one_hot;
      }
    }
    store_row(gradient + begin, result);
  });
}

// at(s, t) = softmax_factor * exp(s) + the part of the divergence (formulas in kernels/losses/distillation_rows.cpp).
template <bool kTempered, bool kMean, class G>
__device__ __forceinline__ void write_pair_gradient(G* gradient, const LogitRows& rows, const RowSettings& settings,
                                                    const Row& row, float softmax_factor, float kl_mean, int hard, int label) {
  const float S = row.student_peak, T = row.teacher_peak, beta = settings.beta, scale = beta * kLog2E;
  const float p_factor = settings.kl_factor / row.sums.student_z;
  // exp(s) at temperature 1 and exp(s') at the trained temperature.
  const auto exponentials = [=](float x, float& plain, float& hot) {
    plain = fast_exp(x);
    hot = kTempered ? fast_exp2(x * scale) : plain;
  };
  if (settings.direction == KlDirection::student_teacher) {
    const float mean_d = row.sums.student_d / row.sums.student_z, factor = p_factor * beta;
    write_gradient<true>(gradient, rows, settings, hard, label, [=](float s, float t) {
      float plain, hot;
      exponentials(s - S, plain, hot);
      return softmax_factor * plain + factor * hot * ((s - S) - (t - T) - mean_d);
    });
  } else if (settings.direction == KlDirection::teacher_student) {
    const float q_factor = settings.kl_factor / row.sums.teacher_z;
    write_gradient<true>(gradient, rows, settings, hard, label, [=](float s, float t) {
      float plain, hot;
      exponentials(s - S, plain, hot);
      return softmax_factor * plain + (p_factor * hot - q_factor * fast_exp2((t - T) * scale));
    });
  } else if constexpr (kMean) {
    const float half = p_factor / 2, log_ratio = row.log_ratio;
    write_gradient<true>(gradient, rows, settings, hard, label, [=](float s, float t) {
      float plain, hot;
      exponentials(s - S, plain, hot);
      return softmax_factor * plain + half * hot * (log_over_mean(beta * ((s - S) - (t - T)) + log_ratio) - kl_mean);
    });
  }
}

// All threads of the block call it.
template <class G>
__device__ __forceinline__ void fill_row(G* gradient, int count, float value) {
  for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) gradient[i] = from_float<G>(value);
}

// Stores term k of the row at first[k * stride]. One thread calls it.
__device__ __forceinline__ void store_terms(float* first, int64_t stride, const DistillationTerms& terms) {
  int term = 0;
  DistillationTerms::visit([&](const LossTerm&, auto member) { first[term++ * stride] = float(terms.*member); });
}

// Terms in which every loss is `loss`. `rows` is 1 if the row counts, otherwise 0.
__device__ __forceinline__ DistillationTerms same_terms(float loss, int64_t rows) {
  DistillationTerms terms;
  DistillationTerms::visit([&](const LossTerm&, auto member) {
    if constexpr (std::is_same_v<decltype(member), double DistillationTerms::*>) terms.*member = loss;
  });
  terms.rows = rows;
  return terms;
}

// The results of the first pass over a row.
struct FirstPass {
  Row plain, hot;  // at temperature 1, and (only if kTempered) at the trained temperature
  int hard;        // the teacher's most likely token, or the label without a teacher
};
// Results that only thread 0 needs. They are in shared memory, because registers are scarce in the later passes.
struct StudentsChoice {
  int top;                  // the student's most likely token
  float at_hard, at_label;  // the student's logits at `hard` and at the label
};

template <bool kTeacher, bool kTempered>
__device__ __forceinline__ FirstPass pass_over_row(const LogitRows& rows, float beta, int label, uint64_t* key_scratch,
                                                   float* scratch, StudentsChoice& choice) {
  RunningRow<kTeacher, kTempered> running(rows, beta);
  for_each_logit<kTeacher>(rows, [&](int begin, const auto& s, const auto& t) { running.add(begin, s, t); });
  uint64_t student_key = peak_key(running.student_peak, running.student_begin);
  uint64_t teacher_key = peak_key(running.teacher_peak, running.teacher_begin);
  max_over_block(student_key, teacher_key, key_scratch);
  const float student_peak = peak_value(student_key), teacher_peak = kTeacher ? peak_value(teacher_key) : 0.0f;
  const int hard = kTeacher ? first_equal(rows.teacher, peak_position(teacher_key), rows.count, teacher_peak) : label;
  FirstPass row{{}, {}, hard};
  // Read before the barriers below, because the gradient may overwrite the logits.
  if (threadIdx.x == 0)
    choice = {first_equal(rows.student, peak_position(student_key), rows.count, student_peak), rows.student[hard],
              rows.student[label]};
  running.raise(student_peak, teacher_peak);
  row.plain = {student_peak, teacher_peak, running.plain, 0};
  row.hot = {student_peak, teacher_peak, running.hot, 0};
  PairSums &plain = row.plain.sums, &hot = row.hot.sums;
  if constexpr (kTempered) {
    float sums[8] = {plain.student_z, plain.teacher_z, plain.student_d, plain.teacher_d,
                     hot.student_z,   hot.teacher_z,   hot.student_d,   hot.teacher_d};
    sum_over_block(sums, scratch);
    plain = {sums[0], sums[1], sums[2], sums[3]};
    hot = {sums[4], sums[5], sums[6], sums[7]};
  } else {
    float sums[4] = {plain.student_z, plain.teacher_z, plain.student_d, plain.teacher_d};
    sum_over_block(sums, scratch);
    plain = {sums[0], sums[1], sums[2], sums[3]};
  }
  if constexpr (kTeacher) {
    row.plain.log_ratio = log_ratio_of(plain);
    if constexpr (kTempered) row.hot.log_ratio = log_ratio_of(hot);
  }
  return row;
}

__device__ __forceinline__ bool is_finite(const PairSums& sums) {  // 0 times a value that is not finite is NaN
  return (sums.student_z + sums.teacher_z) * 0.0f + (sums.student_d + sums.teacher_d) * 0.0f == 0.0f;
}

// `trained`: the row at the trained temperature. Thread 0 calls it.
template <bool kTeacher>
__device__ __forceinline__ DistillationTerms terms_of_row(const FirstPass& row, const StudentsChoice& choice,
                                                          const Row& trained, const MeanSums& mean, const RowSettings& settings,
                                                          int label) {
  const Row& plain = row.plain;
  const float log_z = logf(plain.sums.student_z);
  DistillationTerms terms{.rows = 1};
  terms.true_label = log_z - (choice.at_label - plain.student_peak);
  terms.correct = choice.top == label;
  if constexpr (kTeacher) {
    terms.kl_student_teacher = kl_student_teacher(plain, 1);
    terms.kl_teacher_student = kl_teacher_student(plain, 1);
    terms.hard_label = log_z - (choice.at_hard - plain.student_peak);
    terms.agreements = choice.top == row.hard;
    if (settings.with_kl) {
      const float divergence = settings.direction == KlDirection::student_teacher   ? kl_student_teacher(trained, settings.beta)
                               : settings.direction == KlDirection::teacher_student ? kl_teacher_student(trained, settings.beta)
                                                                                    : (mean.student + mean.teacher) / 2;
      terms.kl = settings.temperature_squared * divergence;
    }
  }
  return terms;
}

// kTempered: the divergence is trained at a temperature other than 1. kMean: it is Jensen-Shannon. `gradient` may be null, or
// the memory of the student's logits.
template <bool kTeacher, bool kTempered, bool kMean, class G>
__global__ void __launch_bounds__(kRowThreads, 2)
    distil_rows(G* gradient, const float* student, const float* teacher, const int32_t* labels, float* terms,
                int64_t gradient_stride, int64_t student_stride, int64_t teacher_stride, int64_t term_stride, int count,
                bool aligned, RowSettings settings) {
  __shared__ uint64_t key_scratch[2 * kRowWarps];
  __shared__ float scratch[8 * kRowWarps];
  __shared__ StudentsChoice choice;
  const int64_t index = blockIdx.x;
  const int label = labels[index];
  const bool with_gradient = gradient != nullptr;
  if (with_gradient) gradient += index * gradient_stride;
  const LogitRows rows{student + index * student_stride, kTeacher ? teacher + index * teacher_stride : nullptr, count, aligned};
  // For padding rows, and for rows with an invalid label or a logit that is not finite.
  const auto fill_all = [&](float value, int64_t counted) {
    if (threadIdx.x == 0) store_terms(terms + index, term_stride, same_terms(value, counted));
    if (with_gradient) fill_row(gradient, count, value);
  };
  const float nan = __uint_as_float(0x7fc00000u);
  if (label < 0 || label >= count) return label == -1 ? fill_all(0, 0) : fill_all(nan, 1);

  const FirstPass row = pass_over_row<kTeacher, kTempered>(rows, settings.beta, label, key_scratch, scratch, choice);
  if (!is_finite(row.plain.sums)) return fill_all(nan, 1);
  const Row& trained = kTempered ? row.hot : row.plain;
  MeanSums mean;
  if constexpr (kMean) mean = sum_against_mean(rows, trained, kTempered ? settings.beta : 1, scratch);
  if (threadIdx.x == 0)
    store_terms(terms + index, term_stride, terms_of_row<kTeacher>(row, choice, trained, mean, settings, label));
  if (!with_gradient) return;
  const float softmax_factor = (settings.hard_weight + settings.label_weight) / row.plain.sums.student_z;
  if (kTeacher && settings.with_kl) {
    write_pair_gradient<kTempered, kMean>(gradient, rows, settings, trained, softmax_factor, mean.student, row.hard, label);
  } else {
    write_gradient<false>(gradient, rows, settings, row.hard, label,
                          [=](float s, float) { return softmax_factor * fast_exp(s - row.plain.student_peak); });
  }
}

constexpr int kTotalThreads = 256;

__global__ void __launch_bounds__(kTotalThreads) total_terms(double* totals, const float* terms, int64_t rows) {
  __shared__ double scratch[kTotalThreads / kWarp];
  const float* term = terms + int64_t(blockIdx.x) * rows;
  double sum = 0;
  for (int64_t row = threadIdx.x; row < rows; row += kTotalThreads) sum += double(term[row]);
  sum = block_sum<kTotalThreads / kWarp>(sum, scratch);
  if (threadIdx.x == 0) totals[blockIdx.x] = sum;
}

}  // namespace

void distillation_rows(RowTerms& terms, int64_t first_row, Tensor& gradient, const Tensor& student_logits,
                       const Tensor& teacher_logits, const Tensor& labels, const DistillationWeights& weights,
                       double gradient_scale) {
  const int64_t rows = student_logits.dim(0), count = student_logits.dim(1);
  if (rows == 0) return;
  ECHO_CHECK(student_logits.dtype() == DType::f32, "distillation_rows: logits ", student_logits, " on a GPU, expected f32");
  ECHO_CHECK(count <= (int64_t{1} << 30), "distillation_rows: logits ", student_logits, ", expected at most 2^30 per row");
  const bool with_teacher = teacher_logits.defined(), with_kl = with_teacher && weights.kl != 0;
  const RowSettings settings{.beta = float(1 / weights.temperature),
                             .temperature_squared = float(weights.temperature * weights.temperature),
                             .kl_factor = float(gradient_scale * weights.kl * weights.temperature),
                             .hard_weight = with_teacher ? float(gradient_scale * weights.hard_label) : 0.0f,
                             .label_weight = float(gradient_scale * weights.true_label),
                             .with_kl = with_kl,
                             .direction = weights.direction};
  const bool tempered = with_kl && weights.temperature != 1;
  const bool mean = with_kl && weights.direction == KlDirection::jensen_shannon;
  const float *student = student_logits.data<float>(), *teacher = data_or_null<float>(teacher_logits);
  const int64_t teacher_stride = with_teacher ? teacher_logits.stride(0) : 0;
  const int64_t threads =
      std::min<int64_t>(kRowThreads, (count + kWarp * kRowVector * kRowUnroll - 1) / (kWarp * kRowVector * kRowUnroll) * kWarp);
  const auto run = [&]<class G>(G* target) {
    const int64_t gradient_stride = target != nullptr ? gradient.stride(0) : 0;
    const bool aligned = is_vector_aligned(student, student_logits.stride(0)) && is_vector_aligned(teacher, teacher_stride) &&
                         is_vector_aligned(reinterpret_cast<float*>(target), gradient_stride);
    const auto start = [&](auto kernel) {
      launch(kernel, unsigned(rows), unsigned(threads), 0, stream(), target, student, teacher, labels.data<int32_t>(),
             terms.of_rows.data<float>() + first_row, gradient_stride, student_logits.stride(0), teacher_stride,
             terms.of_rows.stride(0), int(count), aligned, settings);
    };
    if (!with_teacher) return start(distil_rows<false, false, false, G>);
    if (tempered) return mean ? start(distil_rows<true, true, true, G>) : start(distil_rows<true, true, false, G>);
    return mean ? start(distil_rows<true, false, true, G>) : start(distil_rows<true, false, false, G>);
  };
  if (gradient.defined() && gradient.dtype() == DType::bf16)
    run(gradient.data<bfloat16>());
  else
    run(data_or_null<float>(gradient));
}

DistillationTerms total(const RowTerms& terms) {
  const Tensor totals = Tensor::empty({kRowTerms}, DType::f64, terms.device());
  launch(total_terms, kRowTerms, kTotalThreads, 0, stream(), totals.data<double>(), terms.of_rows.data<float>(),
         terms.of_rows.dim(1));
  double sums[kRowTerms];
  echo::cuda::copy_to_host(sums, totals.data<double>(), sizeof sums);
  DistillationTerms result;
  int term = 0;
  DistillationTerms::visit([&]<class T>(const LossTerm&, T DistillationTerms::*member) { result.*member = T(sums[term++]); });
  return result;
}

}  // namespace echo::kernels::cuda
