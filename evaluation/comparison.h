#pragma once

#include <string>
#include <vector>

#include "evaluation/evaluation.h"

namespace echo {

// A model of a comparison on the same held-out text.
struct ComparedModel {
  std::string name;
  int64_t parameters = 0;
  EvaluationResult result;
};

// A table for the terminal: a line of headings, then one line per model.
std::string comparison_table(const std::vector<ComparedModel>& models);

// The same as a picture file (SVG), without speeds, because these depend more on the machine than on the models.
std::string comparison_svg(const std::vector<ComparedModel>& models, const std::string& title);

// The same as a JSON array with one object per model.
std::string comparison_json(const std::vector<ComparedModel>& models);

}  // namespace echo
