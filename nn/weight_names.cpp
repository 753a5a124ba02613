#include "nn/weight_names.h"

#include "base/error.h"

namespace echo {

std::string layer_weight(int64_t layer, std::string_view part) { return concat("model.layers.", layer, ".", part, ".weight"); }

}  // namespace echo
