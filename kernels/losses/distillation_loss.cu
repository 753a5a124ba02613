// The distillation head on a GPU: the chunks of head_chunks.h, whose rows become terms on the device; the host waits once, for
// their sums.
#include "kernels/losses/distillation_loss.h"
#include "kernels/losses/distillation_rows.h"
#include "kernels/losses/head_chunks.h"

namespace echo::kernels::cuda {

DistillationTerms distillation_head(Tensor& d_student_hidden, Tensor& d_student_head, GradientMode head_mode,
                                    const Tensor& student_hidden, const Tensor& student_head, const Tensor& teacher_hidden,
                                    const Tensor& teacher_head, const Tensor& labels, const DistillationWeights& weights,
                                    double gradient_scale, const DistillationReport& report, int64_t chunk_rows) {
  const int64_t rows = student_hidden.dim(0);
  Tensor terms = Tensor::empty({kRowTerms, rows}, DType::f32, student_hidden.device());
  run_head(d_student_hidden, d_student_head, head_mode, student_hidden, student_head, teacher_hidden, teacher_head, chunk_rows,
           [&](Tensor& gradient, const Tensor& student_logits, const Tensor& teacher_logits, int64_t begin) {
             distillation_rows(terms, begin, gradient, student_logits, teacher_logits,
                               labels.narrow(0, begin, student_logits.dim(0)), weights, gradient_scale, report);
           });
  return total_of_rows(terms);
}

}  // namespace echo::kernels::cuda
