#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/vector_exp.h"

// Passes over one row of logits that stays in the L1 or L2 cache. A is float, with sums of kBlock elements added up in f64, or
// double. Nothing here allocates or throws. Only distillation_rows.cpp uses it.
// `flatten`: a loop vectorises only when every call in it is inlined, and GCC would not inline the larger ones.
namespace echo::kernels::cpu {

// Sums over kBlock elements are in A, and sums of these in f64, so that the error does not grow with the vocabulary.
inline constexpr int64_t kBlock = 512;

template <class A>
struct Peak {
  A value = 0;
  int64_t index = 0;    // the first index if several values are equal
  bool finite = false;  // every element of the row is finite; otherwise the other fields are not valid
};

template <class A>
Peak<A> find_peak(const A* x, int64_t count) {
  Peak<A> peak{-std::numeric_limits<A>::infinity(), 0, true};
  A poison = 0;  // x * 0 is 0 for a finite x and NaN otherwise
  int64_t best_block = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = begin + kBlock < count ? begin + kBlock : count;
    A highest = x[begin];
#pragma omp simd reduction(max : highest) reduction(+ : poison)
    for (int64_t i = begin; i < end; ++i) {
      highest = x[i] > highest ? x[i] : highest;
      poison += x[i] * A(0);
    }
    if (highest > peak.value) {
      peak.value = highest;
      best_block = begin;
    }
  }
  peak.finite = poison == 0;
  if (!peak.finite) return peak;
  const int32_t length = int32_t(best_block + kBlock < count ? kBlock : count - best_block);
  const A* block = x + best_block;
  int32_t first = length;
#pragma omp simd reduction(min : first)
  for (int32_t i = 0; i < length; ++i) {
    const int32_t candidate = block[i] == peak.value ? i : length;
    first = candidate < first ? candidate : first;
  }
  peak.index = best_block + first;
  return peak;
}

// Z = sum exp(x - peak).
template <class A>
[[gnu::flatten]] double sum_exponentials(const A* x, int64_t count, A peak) {
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = begin + kBlock < count ? begin + kBlock : count;
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = begin; i < end; ++i) sum += exponential(x[i] - peak);
    total += double(sum);
  }
  return total;
}

// Two rows at inverse temperature beta, with s' = beta (s - max s), t' = beta (t - max t) and d = s' - t'. Subtracting the
// maxima prevents overflow, and the differences are computed before anything is rounded against a large logit. Loops first copy
// the fields into locals, because GCC 12 uses gather instructions when it has to reload them.
template <class A>
struct RowPair {
  const A* student;
  const A* teacher;
  int64_t count;
  A student_peak, teacher_peak, beta;
};

// With p and q the softmax of s' and t':  log p - log q = d - log Zs + log Zt.
struct PairSums {
  double student_z = 0;                                                           // Zs = sum exp(s')
  double teacher_z = 0;                                                           // Zt = sum exp(t')
  double student_d = 0;                                                           // sum p d
  double teacher_d = 0;                                                           // sum q d
  double log_ratio() const { return std::log(teacher_z) - std::log(student_z); }  // log Zt - log Zs
  double kl_student_teacher() const { return student_d + log_ratio(); }           // sum p (log p - log q)
  double kl_teacher_student() const { return -teacher_d - log_ratio(); }          // sum q (log q - log p)
};

template <class A>
[[gnu::flatten]] PairSums sum_pair(const RowPair<A>& pair) {
  const A *student = pair.student, *teacher = pair.teacher;
  const A student_peak = pair.student_peak, teacher_peak = pair.teacher_peak, beta = pair.beta;
  const int64_t count = pair.count;
  PairSums total;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = begin + kBlock < count ? begin + kBlock : count;
    A student_z = 0, teacher_z = 0, student_d = 0, teacher_d = 0;
#pragma omp simd reduction(+ : student_z, teacher_z, student_d, teacher_d)
    for (int64_t i = begin; i < end; ++i) {
      const A s = (student[i] - student_peak) * beta, t = (teacher[i] - teacher_peak) * beta, d = s - t;
      const A es = exponential(s), et = exponential(t);
      student_z += es;
      teacher_z += et;
      student_d += es * d;
      teacher_d += et * d;
    }
    total.student_z += double(student_z);
    total.teacher_z += double(teacher_z);
    total.student_d += double(student_d);
    total.teacher_d += double(teacher_d);
  }
  total.student_d /= total.student_z;
  total.teacher_d /= total.teacher_z;
  return total;
}

// log(1 + y) for 0 <= y <= 1, absolute error below 2e-7: the series of atanh, log(1 + y) = 2 atanh(y / (2 + y)).
inline float log_one_plus(float y) {
  const float z = y / (2.0f + y), z2 = z * z;  // z <= 1/3: the next term is below 2e-8
  float p = 1.0f / 13;
  p = p * z2 + 1.0f / 11;
  p = p * z2 + 1.0f / 9;
  p = p * z2 + 1.0f / 7;
  p = p * z2 + 1.0f / 5;
  p = p * z2 + 1.0f / 3;
  return 2 * z * (p * z2 + 1.0f);
}
inline double log_one_plus(double y) { return std::log1p(y); }

// With m = (p + q) / 2 and x = log p - log q:  log p - log m = log 2 - log(1 + e^-x), which never forms m (p and q may
// both be 0).
template <class A>
A log_over_mean(A x) {
  const A tail = log_one_plus(exponential(x < 0 ? x : -x));
  return A(0.69314718055994530942) - tail - (x < 0 ? -x : A(0));
}

struct MeanSums {
  double student = 0;  // sum p (log p - log m)
  double teacher = 0;  // sum q (log q - log m)
  double jensen_shannon() const { return (student + teacher) / 2; }
};

template <class A>
[[gnu::flatten]] MeanSums sum_against_mean(const RowPair<A>& pair, const PairSums& sums) {
  const A *student = pair.student, *teacher = pair.teacher;
  const A student_peak = pair.student_peak, teacher_peak = pair.teacher_peak, beta = pair.beta;
  const int64_t count = pair.count;
  const A log_ratio = A(sums.log_ratio()), p_scale = A(1 / sums.student_z), q_scale = A(1 / sums.teacher_z);
  MeanSums total;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = begin + kBlock < count ? begin + kBlock : count;
    A student_sum = 0, teacher_sum = 0;
#pragma omp simd reduction(+ : student_sum, teacher_sum)
    for (int64_t i = begin; i < end; ++i) {
      const A s = (student[i] - student_peak) * beta, t = (teacher[i] - teacher_peak) * beta, x = s - t + log_ratio;
      const A p_over_m = log_over_mean(x);
      student_sum += exponential(s) * p_over_m;
      teacher_sum += exponential(t) * (p_over_m - x);  // log q - log m = (log p - log m) - (log p - log q)
    }
    total.student += double(student_sum * p_scale);
    total.teacher += double(teacher_sum * q_scale);
  }
  return total;
}

}  // namespace echo::kernels::cpu
