#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "analysis/analysis_file.h"
#include "tensor/device.h"

namespace echo {

struct AnalyzeOptions {
  std::filesystem::path model;    // folder of the teacher
  std::filesystem::path data;     // file or folder of documents
  int64_t samples = 128;          // documents to use; fewer when the data hold fewer
  int64_t sequence_length = 512;  // tokens per sample, the beginning token included
  Device device = {};
};

// Called with 0 before the first sample and then after each.
using AnalyzeProgress = std::function<void(int64_t done, int64_t total)>;

// Measures how alike the model's attention matrices are: documents in file order, the beginning token first, those with at
// least sequence_length tokens, cut there. Fills everything of Analysis except ranking, plans and command: make_plans() is
// the caller's. Throws Error.
Analysis analyze_model(const AnalyzeOptions& options, const AnalyzeProgress& progress);

}  // namespace echo
