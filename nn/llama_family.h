#pragma once

#include "nn/model_family.h"

namespace echo {

// Llama, and Llama whose layers share attention. In config.json both spellings of the RoPE settings are read, rope_theta with
// rope_scaling and rope_parameters; when both are there they must agree. They are written in both spellings, and dtype under
// both its names, so that old and new transformers read an unshared model as LlamaForCausalLM.
ModelFamily llama_family();

}  // namespace echo
