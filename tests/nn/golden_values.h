#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "nn/model_io.h"
#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"
#include "weight_files/safetensors.h"

namespace echo {

// A real model, with the values that an f64 reference computed for it and for a student of it (stored in f32).
struct GoldenValues {
  GoldenValues(const std::filesystem::path& shared, const std::string& name, Device where = {})
      : device(where),
        model(shared / "models" / name),
        values(nlohmann::json::parse(read_file(shared / "golden" / name / "values.json"))),
        tensors(shared / "golden" / name / "forward_backward.safetensors"),
        leader_map(values.at("leader_map").get<std::vector<int64_t>>()) {}

  std::unique_ptr<LanguageModel> teacher(DType dtype) const {
    return load_model(CheckpointReader(model), {dtype, true, device});
  }
  std::unique_ptr<LanguageModel> student(DType dtype) const {
    return load_student(CheckpointReader(model), leader_map, {dtype, true, device});
  }
  Tensor ids() const { return tensors.read("input_ids").to(device); }
  Tensor labels() const { return tensors.read("labels").reshape({ids().elements()}).to(device); }
  std::vector<int32_t> prompt() const { return values.at("greedy").at("prompt_ids").get<std::vector<int32_t>>(); }

  Device device;
  std::filesystem::path model;
  nlohmann::json values;
  SafetensorsReader tensors;
  LeaderMap leader_map;
};

// The largest difference, relative to the largest entry of `expected`.
inline double relative_difference(const Tensor& actual, const Tensor& expected) {
  return largest_difference(actual.to(Device{}), expected) / largest_magnitude(expected);
}

// The allowed distance of a build from the f64 reference, relative to a tensor's largest entry. The reference is stored in f32,
// which costs 6e-8. f32 sums over a few hundred terms through 12 layers lose about two digits.
inline double golden_tolerance(DType dtype) { return dtype == DType::f64 ? 1e-6 : 1e-4; }

}  // namespace echo
