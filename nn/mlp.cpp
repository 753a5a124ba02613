#include "nn/mlp.h"

#include "autograd/ops.h"
#include "kernels/decode/projections.h"
#include "nn/weight_names.h"

namespace echo {

Mlp::Mlp(const LlamaConfig& config, int64_t layer, const WeightOptions& options)
    : width_(config.intermediate_size), eps_(config.rms_norm_eps) {
  gate_up_ = add_parameter({{layer_weight(layer, "mlp.gate_proj"), config.intermediate_size},
                            {layer_weight(layer, "mlp.up_proj"), config.intermediate_size}},
                           config.hidden_size, options);
  down_ = add_parameter({{layer_weight(layer, "mlp.down_proj"), config.hidden_size}}, config.intermediate_size, options);
}

Variable Mlp::forward(const Variable& x) const { return linear(swiglu(linear(x, gate_up_)), down_); }

void Mlp::decode(Tensor& residual, const Tensor& norm) const {
  const DType dtype = residual.dtype();
  Tensor gated = Tensor::empty({residual.dim(0), width_}, dtype, residual.device());
  kernels::project_gated(gated, {residual, norm, eps_}, gate_up_.data_as(dtype));
  kernels::project_onto(residual, gated, down_.data_as(dtype));
}

}  // namespace echo
