#pragma once

#include <algorithm>

#include "kernels/losses/distillation_loss.h"
#include "kernels/matmul/matmul.h"
#include "tensor/allocator.h"
#include "tensor/tensor.h"

// The part of distillation_head that does not depend on the device: rows in chunks, and the products around the losses of a
// chunk.
namespace echo::kernels {

// How the rows are divided. Every chunk costs a pass over both heads, and every product with the gradient one over the
// student's head and the head's gradient (f32, read and written), so there are as few as the scratch allows; chunks are of
// nearly equal size, since a small last one costs as much as a large one.
struct HeadChunks {
  int64_t chunk_rows;           // whose logits exist at once
  int64_t chunks_per_gradient;  // whose gradients are multiplied at once
  int64_t row_stride;           // elements from one row of logits, or of their gradient, to the next
};

inline HeadChunks head_chunks(const Tensor& hidden, int64_t vocabulary, bool with_teacher, bool with_gradient,
                              int64_t chunk_rows) {
  const bool on_cpu = hidden.device().is_cpu(), in_place = hidden.dtype() == accumulator_dtype(hidden.dtype());
  // On a GPU rows begin at 256 bytes, for 16-byte accesses, and the smaller gradients of two chunks are kept: they are what a
  // pass over the head's gradient is spread over.
  constexpr int64_t kAlignment = 64;
  HeadChunks chunks;
  chunks.row_stride = on_cpu ? vocabulary : (vocabulary + kAlignment - 1) / kAlignment * kAlignment;
  chunks.chunks_per_gradient = on_cpu || in_place ? 1 : 2;
  const int64_t rows = hidden.dim(0), logit_bytes = size_of(accumulator_dtype(hidden.dtype())) * (with_teacher ? 2 : 1);
  const int64_t gradient_bytes = with_gradient && !in_place ? size_of(hidden.dtype()) * chunks.chunks_per_gradient : 0;
  if (chunk_rows == 0) {
    const int64_t step = on_cpu ? 16 : 128;  // rows of a tile of the products
    int64_t most = (on_cpu ? kHeadScratch : kGpuHeadScratch) / (chunks.row_stride * (logit_bytes + gradient_bytes));
    most = on_cpu ? std::max<int64_t>(most, 1) : std::max(most / step * step, step);
    const int64_t count = (rows + most - 1) / most, even = count == 0 ? 0 : (rows + count - 1) / count;
    chunk_rows = count <= 1 ? rows : std::min(most, (even + step - 1) / step * step);
  }
  chunks.chunk_rows = std::min(chunk_rows, rows);
  return chunks;
}

// The head on any device. row_losses(gradient, student_logits, teacher_logits, begin) turns the logits of rows from `begin` on
// into their terms, which it keeps, and into their gradient where that is defined; it may be the student's logits.
template <class RowLosses>
void run_head(Tensor& d_student_hidden, Tensor& d_student_head, GradientMode head_mode, const Tensor& student_hidden,
              const Tensor& student_head, const Tensor& teacher_hidden, const Tensor& teacher_head, int64_t chunk_rows,
              RowLosses row_losses) {
  const int64_t rows = student_hidden.dim(0), vocabulary = student_head.dim(0);
  const DType dtype = student_hidden.dtype(), logit_dtype = accumulator_dtype(dtype);
  const Device device = student_hidden.device();
  const bool with_teacher = teacher_hidden.defined(), with_gradient = d_student_hidden.defined() || d_student_head.defined();
  const HeadChunks chunks = head_chunks(student_hidden, vocabulary, with_teacher, with_gradient, chunk_rows);
  const int64_t gradient_rows = chunks.chunk_rows * chunks.chunks_per_gradient;
  const auto scratch = [&](int64_t scratch_rows, DType of) {
    const MemoryLabel label("head scratch");
    return Tensor::empty({std::min(scratch_rows, rows), chunks.row_stride}, of, device).narrow(1, 0, vocabulary);
  };
  const Tensor student_scratch = scratch(chunks.chunk_rows, logit_dtype);                            // (chunk, V)
  const Tensor teacher_scratch = with_teacher ? scratch(chunks.chunk_rows, logit_dtype) : Tensor();  // (chunk, V)
  Tensor gradient_scratch;                                                                           // (chunks, V)
  if (with_gradient) gradient_scratch = dtype == logit_dtype ? student_scratch : scratch(gradient_rows, dtype);

  for (int64_t gradient_begin = 0; gradient_begin < rows; gradient_begin += gradient_rows) {
    const int64_t gradient_end = std::min(gradient_begin + gradient_rows, rows);
    for (int64_t begin = gradient_begin; begin < gradient_end; begin += chunks.chunk_rows) {
      const int64_t count = std::min(chunks.chunk_rows, gradient_end - begin);
      Tensor student_logits = student_scratch.narrow(0, 0, count), teacher_logits, gradient;
      matmul(student_logits, student_hidden.narrow(0, begin, count), Transpose::no, student_head, Transpose::yes);
      if (with_teacher) {
        teacher_logits = teacher_scratch.narrow(0, 0, count);
        matmul(teacher_logits, teacher_hidden.narrow(0, begin, count), Transpose::no, teacher_head, Transpose::yes);
      }
      if (with_gradient) gradient = gradient_scratch.narrow(0, begin - gradient_begin, count);
      row_losses(gradient, student_logits, teacher_logits, begin);
    }
    if (!with_gradient) continue;
    const int64_t count = gradient_end - gradient_begin;
    const Tensor d_logits = gradient_scratch.narrow(0, 0, count);
    if (d_student_hidden.defined()) {
      Tensor d_hidden = d_student_hidden.narrow(0, gradient_begin, count);
      matmul(d_hidden, d_logits, Transpose::no, student_head, Transpose::no);
    }
    if (d_student_head.defined())
      matmul(d_student_head, d_logits, Transpose::yes, student_hidden.narrow(0, gradient_begin, count), Transpose::no,
             gradient_begin == 0 ? head_mode : GradientMode::accumulate);
  }
  if (rows == 0 && d_student_head.defined() && head_mode == GradientMode::overwrite) d_student_head.fill_zero();
}

}  // namespace echo::kernels
