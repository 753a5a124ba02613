#pragma once

#include "kernels/cuda/elements.cuh"

// Operations of a block on one row of logits, or on the rows of student and teacher: a loop over both, the running sums of one
// pass, and the sums over the block's threads. Formulas and names are those of kernels/losses/logit_rows.h. Everything is f32.
namespace echo::kernels::cuda {

inline constexpr int kRowThreads = 512;  // the maximum; fewer for short rows
inline constexpr int kRowWarps = kRowThreads / kWarp;
inline constexpr int kRowVector = 4;  // logits per 16-byte load
inline constexpr int kRowUnroll = 4;  // such loads in flight, for each of the two rows

// The rows of a block. Without a teacher its pointer is null, and the loop gives 0 for its values.
struct LogitRows {
  const float* student;
  const float* teacher;
  int count;
  bool aligned;  // both rows start at a multiple of 16 bytes
};

// Calls body(i, s, t) for each kRowVector neighbours from i on; s and t are arrays of kRowVector values. The last few elements,
// or all of them when rows are unaligned, are passed one by one. A thread's positions ascend.
template <bool kTeacher, class Body>
__device__ __forceinline__ void for_each_logit(const LogitRows& rows, Body body) {
  const int end = rows.aligned ? rows.count / kRowVector * kRowVector : 0, step = int(blockDim.x) * kRowVector;
  for (int begin = int(threadIdx.x) * kRowVector; begin < end; begin += kRowUnroll * step) {
    float s[kRowUnroll][kRowVector], t[kRowUnroll][kRowVector] = {};
#pragma unroll
    for (int u = 0; u < kRowUnroll; ++u) {
      const int i = begin + u * step;
      if (i >= end) continue;
      load_elements(s[u], rows.student + i);
      if constexpr (kTeacher) load_elements(t[u], rows.teacher + i);
    }
#pragma unroll
    for (int u = 0; u < kRowUnroll; ++u)
      if (begin + u * step < end) body(begin + u * step, s[u], t[u]);
  }
  for (int i = end + int(threadIdx.x); i < rows.count; i += int(blockDim.x)) {
    const float s[1] = {rows.student[i]}, t[1] = {kTeacher ? rows.teacher[i] : 0.0f};
    body(i, s, t);
  }
}

// ---- sums over a block -------------------------------------------------------------------------------------------------
// Every thread gets the sums. The order of addition is fixed. `scratch` holds kRowWarps * kValues values, and is free again on
// return.
template <int kValues>
__device__ __forceinline__ void sum_over_block(float (&values)[kValues], float* scratch) {
  const int thread = int(threadIdx.x), warps = int(blockDim.x) / kWarp;
#pragma unroll
  for (int v = 0; v < kValues; ++v) {
    values[v] = warp_sum(values[v]);
    if (thread % kWarp == 0) scratch[thread / kWarp * kValues + v] = values[v];
  }
  __syncthreads();
#pragma unroll
  for (int v = 0; v < kValues; ++v) values[v] = scratch[v];
  for (int w = 1; w < warps; ++w)
#pragma unroll
    for (int v = 0; v < kValues; ++v) values[v] += scratch[w * kValues + v];
  __syncthreads();
}

// ---- the largest logit -------------------------------------------------------------------------------------------------
// A value and its first position as one number, which orders by value first, then by lower position.
__device__ __forceinline__ uint64_t peak_key(float value, int position) {
  const uint32_t bits = __float_as_uint(value + 0.0f);  // -0 becomes +0
  const uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t(ordered) << 32 | (0xffffffffu - uint32_t(position));
}
__device__ __forceinline__ float peak_value(uint64_t key) {
  const uint32_t ordered = uint32_t(key >> 32);
  return __uint_as_float((ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered);
}
__device__ __forceinline__ int peak_position(uint64_t key) { return int(0xffffffffu - uint32_t(key)); }

// The largest keys of the block, in every thread. `scratch` holds 2 * kRowWarps values, and is free again on return.
__device__ __forceinline__ void max_over_block(uint64_t& a, uint64_t& b, uint64_t* scratch) {
  const int thread = int(threadIdx.x), warps = int(blockDim.x) / kWarp;
  a = warp_max(a);
  b = warp_max(b);
  if (thread % kWarp == 0) scratch[thread / kWarp] = a, scratch[kRowWarps + thread / kWarp] = b;
  __syncthreads();
  for (int w = 0; w < warps; ++w) {
    a = max(a, scratch[w]);
    b = max(b, scratch[kRowWarps + w]);
  }
  __syncthreads();
}

// The first of the kRowVector logits from `begin` on that equals `value`.
__device__ __forceinline__ int first_equal(const float* logits, int begin, int count, float value) {
  int result = begin;
#pragma unroll
  for (int i = kRowVector - 1; i >= 0; --i)
    if (begin + i < count && logits[begin + i] == value) result = begin + i;
  return result;
}

// ---- one pass ----------------------------------------------------------------------------------------------------------
// Sums relative to reference values S and T of the two rows. s' = beta (s - S), t' = beta (t - T), d = (s - S) - (t - T),
// without beta.
struct PairSums {
  float student_z = 0;  // sum exp(s')
  float teacher_z = 0;  // sum exp(t')
  float student_d = 0;  // sum exp(s') d
  float teacher_d = 0;  // sum exp(t') d

  // Changes the sums to references that are larger by `up` and `teacher_up`.
  __device__ __forceinline__ void raise(float up, float teacher_up, float scale) {
    const float student_factor = fast_exp2(-up * scale), teacher_factor = fast_exp2(-teacher_up * scale),
                shift = teacher_up - up;
    student_d = student_factor * (student_d + shift * student_z);
    teacher_d = teacher_factor * (teacher_d + shift * teacher_z);
    student_z *= student_factor;
    teacher_z *= teacher_factor;
  }
  template <bool kTeacher>
  __device__ __forceinline__ void add(float x, float y, float scale) {
    const float e = fast_exp2(x * scale), d = x - y;
    student_z += e;
    student_d += e * d;  // NaN when a logit is -infinity, whose exponential 0 would hide it
    if constexpr (kTeacher) {
      const float f = fast_exp2(y * scale);
      teacher_z += f;
      teacher_d += f * d;
    }
  }
};

// The state of a thread's elements so far. The references start at the first elements of the row. They move to the largest
// values only when these are more than kSlack above. So sums are hardly ever rescaled, and no exponential exceeds e^kSlack.
// `plain` is at temperature 1, `hot` at the trained temperature.
template <bool kTeacher, bool kTempered>
struct RunningRow {
  static constexpr float kSlack = 16;
  float hot_scale;  // beta / ln 2
  float student_reference, teacher_reference;
  float student_peak, teacher_peak;
  int student_begin = 0, teacher_begin = 0;  // where the kRowVector logits that contain the peak begin
  PairSums plain, hot;

  __device__ __forceinline__ RunningRow(const LogitRows& rows, float beta)
      : hot_scale(beta * kLog2E),
        student_reference(rows.student[0]),
        teacher_reference(kTeacher ? rows.teacher[0] : 0.0f),
        student_peak(student_reference),
        teacher_peak(teacher_reference) {}

  __device__ __forceinline__ void raise(float student_to, float teacher_to) {
    const float up = student_to - student_reference, teacher_up = teacher_to - teacher_reference;
    plain.raise(up, teacher_up, kLog2E);
    if constexpr (kTempered) hot.raise(up, teacher_up, hot_scale);
    student_reference = student_to;
    teacher_reference = teacher_to;
  }

  template <int kCount>
  __device__ __forceinline__ void add(int begin, const float (&s)[kCount], const float (&t)[kCount]) {
    float top = s[0], teacher_top = t[0];
#pragma unroll
    for (int i = 1; i < kCount; ++i) top = fmaxf(top, s[i]), teacher_top = fmaxf(teacher_top, t[i]);
    if (top > student_peak) student_peak = top, student_begin = begin;
    if (kTeacher && teacher_top > teacher_peak) teacher_peak = teacher_top, teacher_begin = begin;
    if (student_peak > student_reference + kSlack || teacher_peak > teacher_reference + kSlack)
      raise(student_peak, teacher_peak);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float x = s[i] - student_reference, y = t[i] - teacher_reference;
      plain.template add<kTeacher>(x, y, kLog2E);
      if constexpr (kTempered) hot.template add<kTeacher>(x, y, hot_scale);
    }
  }
};

// ---- Jensen-Shannon ----------------------------------------------------------------------------------------------------
// log(1 + y) for 0 <= y <= 1, absolute error below 4e-7: the series of atanh, log(1 + y) = 2 atanh(y / (2 + y)).
__device__ __forceinline__ float log_one_plus(float y) {
  const float z = __fdividef(y, 2.0f + y), z2 = z * z;
  float p = 1.0f / 13;
  p = p * z2 + 1.0f / 11;
  p = p * z2 + 1.0f / 9;
  p = p * z2 + 1.0f / 7;
  p = p * z2 + 1.0f / 5;
  p = p * z2 + 1.0f / 3;
  return 2 * z * (p * z2 + 1.0f);
}

// With x = log p - log q and m = (p + q) / 2:  log p - log m.
__device__ __forceinline__ float log_over_mean(float x) { return kLn2 - log_one_plus(fast_exp(-fabsf(x))) + fminf(x, 0.0f); }

}  // namespace echo::kernels::cuda
