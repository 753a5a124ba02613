#include "analysis/analyze_model.h"

#include "base/error.h"

namespace echo {

Analysis analyze_model(const AnalyzeOptions&, const AnalyzeProgress&) {
  fail(ExitCode::usage, "--model: measuring a model is not built yet; --matrix plans from a stored matrix");
}

}  // namespace echo
