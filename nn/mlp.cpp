#include "nn/mlp.h"

#include "autograd/ops.h"
#include "nn/weight_names.h"

namespace echo {

Mlp::Mlp(const LlamaConfig& config, int64_t layer, const WeightOptions& options) : width_(config.intermediate_size) {
  gate_up_ = add_parameter({{layer_weight(layer, "mlp.gate_proj"), config.intermediate_size},
                            {layer_weight(layer, "mlp.up_proj"), config.intermediate_size}},
                           config.hidden_size, options);
  down_ = add_parameter({{layer_weight(layer, "mlp.down_proj"), config.hidden_size}}, config.intermediate_size, options);
}

Variable Mlp::forward(const Variable& x) const { return linear(swiglu(linear(x, gate_up_)), down_); }

void Mlp::decode(const kernels::NormedRows& x) const {
  const DType dtype = x.x.dtype();
  Tensor gated = Tensor::empty({x.x.dim(0), width_}, dtype, x.x.device()), stream = x.x;
  kernels::project_gated(gated, x, gate_up_.data_as(dtype));
  kernels::project_onto(stream, gated, down_.data_as(dtype));
}

}  // namespace echo
