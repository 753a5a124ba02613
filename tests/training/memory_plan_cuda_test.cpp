#include <gtest/gtest.h>

#include "kernels/matmul/matmul.h"
#include "tests/kernels/cuda_parity.h"
#include "tests/training/measured_peak.h"

namespace echo {
namespace {

// Without the library's workspace, which would be much larger than so small a model.
TEST(CudaMemoryPlanTest, IsWithinATenthOfTheMeasuredPeak) {
  LlamaConfig model = medium_model();
  model.num_hidden_layers = 4, model.vocab_size = 256;
  model.num_attention_heads = 2, model.num_key_value_heads = 1, model.head_dim = 64;  // for the tensor cores
  Tensor c = Tensor::zeros({40, 40}, DType::f32, kCuda);
  kernels::matmul(c, c.clone(), kernels::Transpose::no, c.clone(), kernels::Transpose::no);  // now the workspace is allocated
  for (const int flags : {3, 4}) {
    TrainConfig config;
    config.data.sequence_length = 64;
    config.per_device_train_batch_size = 2;
    config.gradient_accumulation_steps = (flags & 1) != 0 ? 2 : 1;
    config.gradient_checkpointing = (flags & 2) != 0;
    config.compute_dtype = settings::ComputeType::bfloat16;
    const bool with_teacher = (flags & 4) != 0;
    PlannedModels models{model, LeaderMap({0, 1, 1, 3})};
    if (with_teacher) models.teacher_bytes = parameter_count(model, LeaderMap::own(4)) * size_of(DType::bf16);
    const double planned = double(plan_memory(config, models, /*on_gpu=*/true).peak - kernels::kGpuMatmulWorkspace);
    const double measured = double(measured_peak(config, models, with_teacher, kCuda));
    EXPECT_NEAR(planned / measured, 1.0, 0.1)
        << "flags " << flags << ": planned " << planned / 1e6 << " MB, measured " << measured / 1e6 << " MB";
  }
}

}  // namespace
}  // namespace echo
