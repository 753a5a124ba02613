#pragma once

#include <memory>
#include <string>
#include <vector>

#include "autograd/variable.h"

namespace echo {

// Properties of the weights of a model.
struct WeightOptions {
  DType dtype = DType::f32;
  bool requires_gradient = true;
  Device device = {};
};

// A trainable tensor. Projections with the same input are fused into one matrix, so that one product computes all of them. The
// parts, each a range of rows, keep the names and shapes of checkpoints.
struct Parameter {
  struct Part {
    std::string name;  // in Hugging Face's naming
    int64_t rows;      // rows of the matrix, or elements of a vector
  };
  Variable variable;  // (sum of rows, columns), or (elements)
  std::vector<Part> parts;
};

// One named tensor of a checkpoint: a view of a parameter, or of a tensor with the same shape as the parameter.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

// The parts of `parameter` as views of `tensor`, which has the parameter's shape (its data, gradient or moments). Throws Error
// otherwise.
std::vector<NamedTensor> parts_of(const Parameter& parameter, const Tensor& tensor);

// A part of a model: named parameters and child modules, in the order of the forward pass.
class Module {
 public:
  virtual ~Module() = default;
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // This module's own parameters, then those of its children. The pointers stay valid as long as the module lives.
  std::vector<Parameter*> parameters() const;
  // Every parameter under its checkpoint names, with fused ones split into their parts.
  std::vector<NamedTensor> named_tensors() const;
  int64_t parameter_count() const;
  // Keeps a copy of every matrix in `dtype` (Variable::keep_compute_copy), for products with activations of that dtype.
  void keep_compute_copies(DType dtype);

 protected:
  // Adds a parameter of zeros with the rows of all parts. columns == 0 makes a vector.
  Variable add_parameter(std::vector<Parameter::Part> parts, int64_t columns, const WeightOptions& options);
  // `child` must live as long as this module: it is a member, or owned by a member.
  void add_child(Module& child) { children_.push_back(&child); }

 private:
  std::vector<std::unique_ptr<Parameter>> own_;
  std::vector<Module*> children_;
};

// Fills matrices with normal(0, standard_deviation), and vectors (norm weights) with 1. Each named part has its own random
// stream. So the values depend on (seed, position of the part), and not on how parts are fused.
void initialize(Module& module, double standard_deviation, uint64_t seed);

}  // namespace echo
