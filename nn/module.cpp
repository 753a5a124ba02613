#include "nn/module.h"

#include "base/random.h"
#include "tensor/allocator.h"

namespace echo {

std::vector<NamedTensor> parts_of(const Parameter& parameter, const Tensor& tensor) {
  ECHO_CHECK(tensor.shape() == parameter.variable.shape(), "parameter parts: ", tensor, " for a parameter ",
             parameter.variable.data());
  std::vector<NamedTensor> result;
  int64_t row = 0;
  for (const Parameter::Part& part : parameter.parts) {
    result.push_back({part.name, tensor.narrow(0, row, part.rows)});
    row += part.rows;
  }
  return result;
}

std::vector<Parameter*> Module::parameters() const {
  std::vector<Parameter*> result;
  for (const auto& parameter : own_) result.push_back(parameter.get());
  for (const Module* child : children_)
    for (Parameter* parameter : child->parameters()) result.push_back(parameter);
  return result;
}

std::vector<NamedTensor> Module::named_tensors() const {
  std::vector<NamedTensor> result;
  for (const Parameter* parameter : parameters())
    for (NamedTensor& part : parts_of(*parameter, parameter->variable.data())) result.push_back(std::move(part));
  return result;
}

int64_t Module::parameter_count() const {
  int64_t count = 0;
  for (const Parameter* parameter : parameters()) count += parameter->variable.data().elements();
  return count;
}

void Module::keep_compute_copies(DType dtype) {
  const MemoryLabel label("weights in the compute dtype");
  for (Parameter* parameter : parameters())
    if (parameter->variable.data().rank() == 2) parameter->variable.keep_compute_copy(dtype);
}

Variable Module::add_parameter(std::vector<Parameter::Part> parts, int64_t columns, const WeightOptions& options) {
  const MemoryLabel label(options.requires_gradient ? "parameters" : "frozen weights");
  int64_t rows = 0;
  for (const Parameter::Part& part : parts) rows += part.rows;
  const Shape shape = columns == 0 ? Shape{rows} : Shape{rows, columns};
  Variable variable(Tensor::zeros(shape, options.dtype, options.device), options.requires_gradient);
  own_.push_back(std::make_unique<Parameter>(Parameter{variable, std::move(parts)}));
  return variable;
}

void initialize(Module& module, double standard_deviation, uint64_t seed) {
  uint64_t stream = 0;
  for (NamedTensor& part : module.named_tensors()) {
    const Philox random(seed, stream++);
    Tensor values = part.tensor.device().is_cpu() ? part.tensor : Tensor::empty(part.tensor.shape(), part.tensor.dtype());
    dispatch_float(values.dtype(), [&]<class T>() {
      T* data = values.data<T>();
      const bool is_matrix = values.rank() == 2;
#pragma omp parallel for schedule(static)
      for (int64_t i = 0; i < values.elements(); ++i)
        data[i] = T(static_cast<accumulator<T>>(is_matrix ? standard_deviation * random.normal(uint64_t(i)) : 1.0));
    });
    if (!part.tensor.device().is_cpu()) part.tensor.copy_from(values);
  }
}

}  // namespace echo
