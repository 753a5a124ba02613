#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "analysis/analysis_file.h"
#include "base/path_list.h"
#include "tensor/device.h"

namespace echo {

class RemoteData;

struct AnalyzeOptions {
  std::filesystem::path model;              // folder of the teacher
  PathList data;                            // documents (find_data_files)
  std::shared_ptr<RemoteData> remote = {};  // the parts of them on other machines; null when there are none
  int64_t samples = 128;                    // number of documents to use; fewer when the data has fewer
  int64_t sequence_length = 512;            // tokens per sample, including the beginning token
  Device device = {};
};

// Called with done = 0 before the first sample, and then after each sample.
using AnalyzeProgress = std::function<void(int64_t done, int64_t total)>;

// Measures how alike the model's attention matrices are. It uses documents in file order, with the beginning token first: those
// with at least sequence_length tokens, cut to that length. Fills all of Analysis except ranking and plans (the caller calls
// make_plans()) and command. Throws Error: input_missing, bad_data, usage, numerical, device.
Analysis analyze_model(const AnalyzeOptions& options, const AnalyzeProgress& progress);

}  // namespace echo
