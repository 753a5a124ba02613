// Losses of logits on a GPU: a block owns a row (16 logits and more for each thread, at most 512 threads), a thread every so
// many vectors of 16 bytes. The first pass reads both rows once and yields maxima, normalisers and divergences together
// (running references, see logit_rows.cuh); the second reads them again, mostly from the second-level cache, and writes the
// gradient. Jensen-Shannon adds a pass between, since it needs the normalisers. Shared memory: 768 bytes. Bytes per pair of
// logits: 8 read, 8 read again, 2 written in bf16 (4 in f32); 8 without a gradient.
// A row leaves its terms (36 bytes); when all chunks are done, one block per term adds them up in f64 in a fixed order.
#include "kernels/losses/distillation_rows.h"
#include "kernels/losses/logit_rows.cuh"
#include "tensor/cuda_memory.h"

namespace echo::kernels::cuda {
namespace {

// What is the same for all rows of a call.
struct RowSettings {
  float beta, temperature_squared;
  float kl_factor;                  // gradient_scale * kl * temperature
  float hard_weight, label_weight;  // times gradient_scale
  bool with_kl, report_mean;
  KlDirection direction;
};

enum class Term {
  kl,
  kl_student_teacher,
  kl_teacher_student,
  jensen_shannon,
  hard_label,
  true_label,
  rows,
  agreements,
  correct
};
static_assert(int(Term::correct) + 1 == kRowTerms);

struct MeanSums {
  float student = 0;  // sum p (log p - log m)
  float teacher = 0;  // sum q (log q - log m)
};

// A row after the first pass. `sums` are against its peaks, at the temperature that is trained at.
struct Row {
  float student_peak, teacher_peak;
  PairSums sums;
  float log_ratio;  // log Zt - log Zs
};

// Of the quotient, which is near 1 where the distributions are alike: nothing cancels then.
__device__ __forceinline__ float log_ratio_of(const PairSums& sums) { return logf(sums.teacher_z / sums.student_z); }

// beta turns differences at temperature 1 into those of the row's temperature.
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
      values[1] += fast_exp2(b * scale) * log_over_mean(-x);  // the logarithm they share is computed once
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

// gradient[i] = at(s, t), less the one-hot parts, which are taken off before anything is rounded.
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

// at(s, t) = softmax_factor * exp(s) + the divergence's share (kernels/losses/distillation_rows.cpp has the formulas).
template <bool kTempered, bool kMean, class G>
__device__ __forceinline__ void write_pair_gradient(G* gradient, const LogitRows& rows, const RowSettings& settings,
                                                    const Row& row, float softmax_factor, float kl_mean, int hard, int label) {
  const float S = row.student_peak, T = row.teacher_peak, beta = settings.beta, scale = beta * kLog2E;
  const float p_factor = settings.kl_factor / row.sums.student_z;
  // Of exp(s) at temperature 1, and exp(s') at the one that is trained at.
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

// Called by all threads.
template <class G>
__device__ __forceinline__ void fill_row(G* gradient, int count, float value) {
  for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) gradient[i] = from_float<G>(value);
}

struct TermsOfRow {
  float* first;  // term k of the row is first[k * stride]
  int64_t stride;
  __device__ __forceinline__ void set(Term term, float value) const { first[int(term) * stride] = value; }
  // The losses become `value`, the counts 0, but for the row itself.
  __device__ __forceinline__ void fill(float value, float row) const {
    if (threadIdx.x != 0) return;
    for (int term = 0; term < kRowTerms; ++term) first[term * stride] = term < int(Term::rows) ? value : 0.0f;
    set(Term::rows, row);
  }
};

// kTempered: the divergence is trained at another temperature than 1. kMean: Jensen-Shannon is reported or trained. `gradient`
// may be null, or the student's logits.
template <bool kTeacher, bool kTempered, bool kMean, class G>
__global__ void __launch_bounds__(kRowThreads, 2)
    distil_rows(G* gradient, const float* student, const float* teacher, const int32_t* labels, float* terms,
                int64_t gradient_stride, int64_t student_stride, int64_t teacher_stride, int64_t term_stride, int count,
                bool aligned, RowSettings settings) {
  __shared__ uint64_t key_scratch[2 * kRowWarps];
  __shared__ float scratch[8 * kRowWarps];
  const int64_t index = blockIdx.x;
  const int label = labels[index];
  const bool with_gradient = gradient != nullptr;
  if (with_gradient) gradient += index * gradient_stride;
  const LogitRows rows{student + index * student_stride, kTeacher ? teacher + index * teacher_stride : nullptr, count, aligned};
  const TermsOfRow out{terms + index, term_stride};
  const float nan = __uint_as_float(0x7fc00000u);
  if (label < 0 || label >= count) {  // padding, or no label at all
    const float value = label == -1 ? 0.0f : nan;
    out.fill(value, label == -1 ? 0.0f : 1.0f);
    if (with_gradient) fill_row(gradient, count, value);
    return;
  }

  RunningRow<kTeacher, kTempered> running(rows, settings.beta);
  for_each_logit<kTeacher>(rows, [&](int begin, const auto& s, const auto& t) { running.add(begin, s, t); });
  uint64_t student_key = peak_key(running.student_peak, running.student_begin);
  uint64_t teacher_key = peak_key(running.teacher_peak, running.teacher_begin);
  max_over_block(student_key, teacher_key, key_scratch);
  const float student_peak = peak_value(student_key), teacher_peak = kTeacher ? peak_value(teacher_key) : 0.0f;
  const int hard = kTeacher ? first_equal(rows.teacher, peak_position(teacher_key), count, teacher_peak) : label;
  // Read before the barriers below: the gradient may replace the logits.
  int student_top = 0;
  float at_hard = 0, at_label = 0;
  if (threadIdx.x == 0) {
    student_top = first_equal(rows.student, peak_position(student_key), count, student_peak);
    at_hard = rows.student[hard];
    at_label = rows.student[label];
  }
  running.raise(student_peak, teacher_peak);
  Row plain{student_peak, teacher_peak, running.plain, 0}, hot{student_peak, teacher_peak, running.hot, 0};
  if constexpr (kTempered) {
    float sums[8] = {plain.sums.student_z, plain.sums.teacher_z, plain.sums.student_d, plain.sums.teacher_d,
                     hot.sums.student_z,   hot.sums.teacher_z,   hot.sums.student_d,   hot.sums.teacher_d};
    sum_over_block(sums, scratch);
    plain.sums = {sums[0], sums[1], sums[2], sums[3]};
    hot.sums = {sums[4], sums[5], sums[6], sums[7]};
  } else {
    float sums[4] = {plain.sums.student_z, plain.sums.teacher_z, plain.sums.student_d, plain.sums.teacher_d};
    sum_over_block(sums, scratch);
    plain.sums = {sums[0], sums[1], sums[2], sums[3]};
  }
  const PairSums& sums = plain.sums;
  // 0 times what is not finite is NaN.
  if (!((sums.student_z + sums.teacher_z) * 0.0f + (sums.student_d + sums.teacher_d) * 0.0f == 0.0f)) {
    out.fill(nan, 1);
    if (with_gradient) fill_row(gradient, count, nan);
    return;
  }
  if constexpr (kTeacher) {
    plain.log_ratio = log_ratio_of(plain.sums);
    if constexpr (kTempered) hot.log_ratio = log_ratio_of(hot.sums);
  }
  const Row& trained = kTempered ? hot : plain;
  const bool train_mean = settings.with_kl && settings.direction == KlDirection::jensen_shannon;
  MeanSums plain_mean, trained_mean;
  if constexpr (kMean) {
    if (settings.report_mean || (train_mean && !kTempered)) plain_mean = sum_against_mean(rows, plain, 1, scratch);
    trained_mean = plain_mean;
    if (kTempered && train_mean) trained_mean = sum_against_mean(rows, hot, settings.beta, scratch);
  }

  if (threadIdx.x == 0) {
    const float log_z = logf(sums.student_z);
    out.fill(0, 1);
    out.set(Term::true_label, log_z - (at_label - student_peak));
    out.set(Term::correct, student_top == label);
    if constexpr (kTeacher) {
      out.set(Term::kl_student_teacher, kl_student_teacher(plain, 1));
      out.set(Term::kl_teacher_student, kl_teacher_student(plain, 1));
      if (settings.report_mean) out.set(Term::jensen_shannon, (plain_mean.student + plain_mean.teacher) / 2);
      out.set(Term::hard_label, log_z - (at_hard - student_peak));
      out.set(Term::agreements, student_top == hard);
      if (settings.with_kl) {
        const float divergence = settings.direction == KlDirection::student_teacher ? kl_student_teacher(trained, settings.beta)
                                 : settings.direction == KlDirection::teacher_student
                                     ? kl_teacher_student(trained, settings.beta)
                                     : (trained_mean.student + trained_mean.teacher) / 2;
        out.set(Term::kl, settings.temperature_squared * divergence);
      }
    }
  }
  if (!with_gradient) return;
  const float softmax_factor = (settings.hard_weight + settings.label_weight) / sums.student_z;
  if (kTeacher && settings.with_kl) {
    write_pair_gradient<kTempered, kMean>(gradient, rows, settings, trained, softmax_factor, trained_mean.student, hard, label);
  } else {
    write_gradient<false>(gradient, rows, settings, hard, label,
                          [=](float s, float) { return softmax_factor * fast_exp(s - student_peak); });
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

void distillation_rows(Tensor& terms, int64_t first_row, Tensor& gradient, const Tensor& student_logits,
                       const Tensor& teacher_logits, const Tensor& labels, const DistillationWeights& weights,
                       double gradient_scale, const DistillationReport& report) {
  const int64_t rows = student_logits.dim(0), count = student_logits.dim(1);
  if (rows == 0) return;
  ECHO_CHECK(count <= (int64_t{1} << 30), "distillation_rows: logits ", student_logits, ", expected at most 2^30 a row");
  const bool with_teacher = teacher_logits.defined(), with_kl = with_teacher && weights.kl != 0;
  const RowSettings settings{.beta = float(1 / weights.temperature),
                             .temperature_squared = float(weights.temperature * weights.temperature),
                             .kl_factor = float(gradient_scale * weights.kl * weights.temperature),
                             .hard_weight = with_teacher ? float(gradient_scale * weights.hard_label) : 0.0f,
                             .label_weight = float(gradient_scale * weights.true_label),
                             .with_kl = with_kl,
                             .report_mean = report.jensen_shannon,
                             .direction = weights.direction};
  const bool tempered = with_kl && weights.temperature != 1;
  const bool mean = with_teacher && (report.jensen_shannon || (with_kl && weights.direction == KlDirection::jensen_shannon));
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
             terms.data<float>() + first_row, gradient_stride, student_logits.stride(0), teacher_stride, terms.stride(0),
             int(count), aligned, settings);
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

DistillationTerms total_of_rows(const Tensor& terms) {
  const Tensor totals = Tensor::empty({kRowTerms}, DType::f64, terms.device());
  launch(total_terms, kRowTerms, kTotalThreads, 0, stream(), totals.data<double>(), terms.data<float>(), terms.dim(1));
  double sum[kRowTerms];
  echo::cuda::copy_to_host(sum, totals.data<double>(), sizeof sum);
  const auto of = [&](Term term) { return sum[int(term)]; };
  return {.kl = of(Term::kl),
          .kl_student_teacher = of(Term::kl_student_teacher),
          .kl_teacher_student = of(Term::kl_teacher_student),
          .jensen_shannon = of(Term::jensen_shannon),
          .hard_label = of(Term::hard_label),
          .true_label = of(Term::true_label),
          .rows = int64_t(of(Term::rows)),
          .agreements = int64_t(of(Term::agreements)),
          .correct = int64_t(of(Term::correct))};
}

}  // namespace echo::kernels::cuda
